// Goal: one decode step's attention of one layer, full against sparse, on one
// core: full reads every row; sparse scores slices (TIP), selects, and attends to
// the chosen rows (FAC), all of them at hand.
//
// Method  Layers rotate so that their KV together is at least 48 MiB and no near
//         cache holds it; rows lie on huge pages, as in the service. A repetition
//         is full attention over all layers, then the sparse step over all layers
//         once unmeasured and twice measured: in practice one decodes the one way
//         or the other, and both meet whatever else the machine does. Queries drift
//         from step to step, so that most of a selection was selected before.
//         --cold measures the sparse step right after full attention instead, which
//         has thrown its slices and rows out of the caches. Medians.
#include <fmt/core.h>
#include <sys/mman.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/targets.h"
#include "kernels/dtype.h"
#include "kernels/fac.h"
#include "kernels/select.h"
#include "kernels/tip.h"

namespace passband::kernels {
namespace {

struct Options {
  std::vector<size_t> contexts = {1024, 2048, 4096, 8192, 16384, 32768};
  int kv_heads = 2;
  int group = 4;
  int head_dim = 128;
  int chunks = 24;
  uint32_t budget = 256;
  int repetitions = 25;
  bool cold = false;
  std::string json;
};

struct Encoding {
  const char* name;
  SliceEncoding encoding;
};
constexpr Encoding kEncodings[] = {{"2 bit", SliceEncoding::kInt2},
                                   {"int4", SliceEncoding::kInt4},
                                   {"bf16", SliceEncoding::kBf16}};
constexpr size_t kMinLayers = 6;
constexpr size_t kMinKvBytes = size_t{48} << 20;

// Zeroed memory on huge pages.
class RowStore {
 public:
  explicit RowStore(size_t bytes)
      : bytes_((bytes + kHugePage - 1) / kHugePage * kHugePage),
        memory_(static_cast<std::byte*>(std::aligned_alloc(kHugePage, bytes_))) {
    if (memory_ == nullptr) throw std::bad_alloc();
    // A refusal costs TLB misses, for both contestants, and nothing else.
    madvise(memory_.get(), bytes_, MADV_HUGEPAGE);
    std::memset(memory_.get(), 0, bytes_);
  }
  std::byte* data() { return memory_.get(); }
  const std::byte* data() const { return memory_.get(); }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  size_t bytes_;
  std::unique_ptr<std::byte, Free> memory_;
};

std::vector<float> Normals(size_t count, std::mt19937& engine) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(engine);
  return values;
}

// `sets` sets of `count` floats, each near the one before.
std::vector<float> Drifting(size_t count, size_t sets, std::mt19937& engine) {
  std::vector<float> values = Normals(count, engine);
  const std::vector<float> steps = Normals(count * (sets - 1), engine);
  for (size_t i = 0; i < steps.size(); ++i) {
    values.push_back(0.98F * values[i] + 0.2F * steps[i]);
  }
  return values;
}

// One layer's rows, [kv_head][token].
RowStore MakeRows(const Options& options, size_t tokens, std::mt19937& engine) {
  const size_t row = 2 * static_cast<size_t>(options.head_dim);
  const size_t count = static_cast<size_t>(options.kv_heads) * tokens * row;
  RowStore rows(count * 2);
  // Normal numbers are slow to draw: a pool of them, entered at random places.
  const std::vector<float> pool = Normals(size_t{1} << 16, engine);
  for (size_t i = 0; i < count; i += row) {
    const size_t start = engine() % (pool.size() - row);
    FloatToDType(pool.data() + start, row, DType::kBf16, rows.data() + 2 * i);
  }
  return rows;
}

std::shared_ptr<const SliceSpec> MakeSpec(const Options& options, SliceEncoding encoding) {
  auto spec = std::make_shared<SliceSpec>();
  spec->shape.head_dim = spec->shape.rotary_dim = static_cast<uint16_t>(options.head_dim);
  spec->encoding = encoding;
  for (int c = 0; c < options.chunks; ++c) {
    spec->chunks.push_back(static_cast<uint16_t>(c * spec->shape.chunks() / options.chunks));
  }
  spec->mean.assign(static_cast<size_t>(spec->components()), 0.0F);
  spec->deviation.assign(static_cast<size_t>(spec->components()), 1.0F);
  return spec;
}

double Median(std::vector<double>& samples) {
  const auto middle = samples.begin() + static_cast<ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

class Timer {
 public:
  // Microseconds since construction or the last call.
  double Lap() {
    const auto now = std::chrono::steady_clock::now();
    const double us = std::chrono::duration<double, std::micro>(now - last_).count();
    last_ = now;
    return us;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

struct Result {
  size_t context = 0;
  std::string encoding;
  double full = 0, tip = 0, select = 0, fac = 0, sparse = 0;
  double ratio() const { return full / sparse; }
};

struct Samples {
  std::vector<double> full, tip, select, fac, sparse;
};

class Experiment {
 public:
  Experiment(const Options& options, size_t context) : options_(options), context_(context) {
    std::mt19937 engine(static_cast<uint32_t>(context));
    const size_t layer_bytes = kv_heads() * context * 4 * static_cast<size_t>(options.head_dim);
    const size_t layers = std::max(kMinLayers, kMinKvBytes / layer_bytes);
    for (size_t l = 0; l < layers; ++l) layers_.push_back(MakeRows(options, context, engine));
    queries_ = Drifting(kv_heads() * head_floats(), kQuerySets, engine);
    out_.resize(head_floats());
    shape_.head_dim = shape_.rotary_dim = static_cast<uint16_t>(options.head_dim);
  }

  Result Run(const Encoding& encoding) {
    const auto spec = MakeSpec(options_, encoding.encoding);
    std::vector<SliceIndex> indexes;
    for (const auto& rows : layers_) {
      for (size_t h = 0; h < kv_heads(); ++h) {
        indexes.emplace_back(spec).AppendKeys(rows.data() + h * head_bytes(), shape_.row_bytes(),
                                              context_);
      }
    }
    Samples samples;
    Samples unmeasured;
    for (int r = 0; r <= options_.repetitions; ++r) {
      Samples& kept = r == 0 ? unmeasured : samples;
      FullStep(r, kept);
      SparseStep(indexes, 3 * r, options_.cold ? kept : unmeasured);
      if (options_.cold) continue;
      SparseStep(indexes, 3 * r + 1, kept);
      SparseStep(indexes, 3 * r + 2, kept);
    }
    return {context_,
            encoding.name,
            Median(samples.full),
            Median(samples.tip),
            Median(samples.select),
            Median(samples.fac),
            Median(samples.sparse)};
  }

 private:
  static constexpr size_t kQuerySets = 7;

  size_t kv_heads() const { return static_cast<size_t>(options_.kv_heads); }
  size_t head_floats() const {
    return static_cast<size_t>(options_.group) * static_cast<size_t>(options_.head_dim);
  }
  size_t head_bytes() const { return context_ * shape_.row_bytes(); }
  const float* Queries(int step, size_t head) const {
    const size_t set = static_cast<size_t>(step) % kQuerySets;
    return queries_.data() + (set * kv_heads() + head) * head_floats();
  }
  float Scale() const { return 1 / std::sqrt(static_cast<float>(options_.head_dim)); }

  // All layers once.
  void FullStep(int step, Samples& samples) {
    for (const RowStore& rows : layers_) samples.full.push_back(Full(rows, step));
  }
  void SparseStep(const std::vector<SliceIndex>& indexes, int step, Samples& samples) {
    for (size_t l = 0; l < layers_.size(); ++l) {
      double us[3] = {};
      Sparse(layers_[l], &indexes[l * kv_heads()], step, us);
      samples.tip.push_back(us[0]);
      samples.select.push_back(us[1]);
      samples.fac.push_back(us[2]);
      samples.sparse.push_back(us[0] + us[1] + us[2]);
    }
  }

  double Full(const RowStore& rows, int step) {
    Timer timer;
    for (size_t h = 0; h < kv_heads(); ++h) {
      FacContiguous({shape_, options_.group, Scale(), Queries(step, h), out_.data()},
                    rows.data() + h * head_bytes(), context_);
    }
    return timer.Lap();
  }

  void Sparse(const RowStore& rows, const SliceIndex* indexes, int step, double* us) {
    scores_.resize(context_);
    Timer timer;
    for (size_t h = 0; h < kv_heads(); ++h) {
      TipScores(indexes[h], Queries(step, h), options_.group, Scale(), tip_scratch_,
                scores_.data());
      us[0] += timer.Lap();
      SelectTokens(scores_, {.budget = options_.budget}, select_scratch_, selected_);
      us[1] += timer.Lap();
      pointers_.clear();
      for (const uint32_t token : selected_) {
        pointers_.push_back(rows.data() + h * head_bytes() + token * shape_.row_bytes());
      }
      Fac({shape_, options_.group, Scale(), Queries(step, h), out_.data()}, pointers_);
      us[2] += timer.Lap();
    }
  }

  const Options& options_;
  size_t context_;
  HeadShape shape_;
  std::vector<RowStore> layers_;
  std::vector<float> queries_;
  std::vector<float> out_;
  std::vector<float> scores_;
  std::vector<uint32_t> selected_;
  std::vector<const std::byte*> pointers_;
  TipScratch tip_scratch_;
  SelectScratch select_scratch_;
};

void PrintRow(const Result& result) {
  fmt::print("{:>8} {:>7} {:>9.1f} {:>8.1f} {:>8.1f} {:>8.1f} {:>8.1f} {:>7.2f}x{}\n",
             result.context, result.encoding, result.full, result.tip, result.select, result.fac,
             result.sparse, result.ratio(), result.ratio() < 1 ? "  slower" : "");
  std::fflush(stdout);
}

nlohmann::json ToJson(const Options& options, const std::vector<Result>& results) {
  nlohmann::json json = {{"target", CpuTargets().front().name},
                         {"kv_heads", options.kv_heads},
                         {"group", options.group},
                         {"head_dim", options.head_dim},
                         {"chunks", options.chunks},
                         {"budget", options.budget},
                         {"cold", options.cold},
                         {"unit", "microseconds, median"},
                         {"results", nlohmann::json::array()}};
  for (const Result& r : results) {
    json["results"].push_back({{"context", r.context},
                               {"encoding", r.encoding},
                               {"full", r.full},
                               {"tip", r.tip},
                               {"select", r.select},
                               {"fac", r.fac},
                               {"sparse", r.sparse},
                               {"ratio", r.ratio()}});
  }
  return json;
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Full attention against TIP + select + FAC, one layer's decode step, one core");
  app.add_option("--contexts", options.contexts, "Context lengths in tokens")->delimiter(',');
  app.add_option("--kv-heads", options.kv_heads)->check(CLI::Range(1, 64));
  app.add_option("--group", options.group, "Query heads a kv head")
      ->check(CLI::Range(1, kMaxGroup));
  app.add_option("--head-dim", options.head_dim)->check(CLI::Range(2, kMaxHeadDim));
  app.add_option("--chunks", options.chunks)->check(CLI::Range(1, kMaxChunks));
  app.add_option("--budget", options.budget, "Rows attended to")->check(CLI::Range(68, 1 << 20));
  app.add_option("--repetitions", options.repetitions)->check(CLI::Range(1, 100000));
  app.add_flag("--cold", options.cold, "Measure sparse steps only right after full attention");
  app.add_option("--json", options.json, "Also write the results to this file");
  CLI11_PARSE(app, argc, argv);
  if (options.chunks > options.head_dim / 2 || options.head_dim % 2 != 0) {
    fmt::print(stderr, "--chunks must be at most half of an even --head-dim\n");
    return 2;
  }
  fmt::print("{} kv heads x {} query heads, head_dim {}, bf16 rows, {} chunks, budget {}, {}\n",
             options.kv_heads, options.group, options.head_dim, options.chunks, options.budget,
             CpuTargets().front().name);
  fmt::print("{:>8} {:>7} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8}\n", "context", "slices", "full us",
             "TIP us", "select", "FAC", "sparse", "ratio");
  std::vector<Result> results;
  for (const size_t context : options.contexts) {
    Experiment experiment(options, context);
    for (const Encoding& encoding : kEncodings) {
      results.push_back(experiment.Run(encoding));
      PrintRow(results.back());
    }
  }
  if (!options.json.empty()) {
    std::ofstream file(options.json);
    file << ToJson(options, results).dump(2) << "\n";
    if (!file.flush()) {
      fmt::print(stderr, "cannot write {}\n", options.json);
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace passband::kernels

int main(int argc, char** argv) { return passband::kernels::Main(argc, argv); }
