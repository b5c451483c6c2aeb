// Goal: a decode step of one layer through the engine, with the rows in a service
// of this process, against full attention over rows at hand, on one core.
//
// Method  Layers rotate so that their KV together is at least 48 MiB and no cache
//         holds it. Each repetition decodes one token: full attention over all
//         layers; then TIP, select and FAC as bare kernels, on the engine's slices,
//         rows in place; then the engine. "hot": the query stays, so that every
//         row is in the cache after the first steps. "drift": the query moves a
//         little each step, so that some rows are missing and fetched. Medians.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/fac.h"
#include "sdk/embedded/embedded_service.h"
#include "sdk/engine.h"
#include "sdk/lap_timer.h"

namespace passband {
namespace {

constexpr uint32_t kMinLayers = 4;
constexpr uint64_t kMinKvBytes = uint64_t{48} << 20;

struct Options {
  std::vector<uint64_t> contexts = {1024, 2048, 4096, 8192, 16384, 32768};
  std::vector<uint32_t> batches = {1, 8};
  uint64_t max_batch_tokens = 65536;
  uint32_t kv_heads = 2;
  uint32_t group = 4;
  uint32_t budget = 256;
  uint32_t hot_rows = 0;
  float drift = 0.1F;
  int repetitions = 40;
  std::string json;
};

// Microseconds of one layer's step of the whole batch.
struct Result {
  uint64_t context = 0;
  uint32_t batch = 0;
  bool drifting = false;
  double full = 0, kernels = 0, engine = 0;
  double tip = 0, select = 0, cache = 0, fetch = 0, fac = 0;  // of engine; means
  double missing = 0;                                         // share of selected rows

  double overhead() const { return engine / kernels - 1; }
  double ratio() const { return full / engine; }
};

double Median(std::vector<double>& samples) {
  const auto middle = samples.begin() + static_cast<ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

std::vector<float> Normals(size_t count, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

ModelInfo MakeModel(const Options& options, uint32_t layers) {
  ModelInfo model;
  model.fingerprint = {.architecture = "bench", .weights = "random"};
  model.name = "bench";
  model.layers = layers;
  model.kv_heads = options.kv_heads;
  model.query_heads = options.kv_heads * options.group;
  return model;
}

StatusOr<std::shared_ptr<const Profile>> MakeProfile(const ModelInfo& model) {
  auto profile = std::make_shared<Profile>();
  profile->model_name = model.name;
  profile->fingerprint = model.fingerprint;
  profile->shape = model.head;
  profile->layers = model.layers;
  profile->query_heads = model.query_heads;
  profile->kv_heads = model.kv_heads;
  profile->provenance.selector = "greedy";
  profile->provenance.pairing = "rope";
  auto spec = std::make_shared<kernels::SliceSpec>();
  spec->shape = model.head;
  spec->encoding = profile->encoding;
  for (uint16_t chunk = 0; chunk < 48; chunk += 2) spec->chunks.push_back(chunk);
  spec->mean.assign(static_cast<size_t>(spec->components()), 0.0F);
  spec->deviation.assign(static_cast<size_t>(spec->components()), 1.0F);
  profile->specs.assign(size_t{model.layers} * model.kv_heads, spec);
  PASSBAND_RETURN_IF_ERROR(profile->Finish());
  return std::shared_ptr<const Profile>(std::move(profile));
}

// The sequences of one batch, in the engine and as plain rows.
class Experiment {
 public:
  static StatusOr<std::unique_ptr<Experiment>> Create(const Options& options, uint64_t context,
                                                      uint32_t batch) {
    std::unique_ptr<Experiment> out(new Experiment(options, context, batch));
    PASSBAND_RETURN_IF_ERROR(out->Fill());
    return out;
  }

  StatusOr<Result> Run(bool drifting) {
    for (int i = 0; i < 8; ++i) PASSBAND_RETURN_IF_ERROR(Decode(drifting));
    engine_->ResetStats();
    std::vector<double> full, kernels, engine;
    for (int i = 0; i < options_.repetitions; ++i) {
      LapTimer timer;
      for (uint32_t layer = 0; layer < model_.layers; ++layer) {
        for (uint32_t item = 0; item < batch_; ++item) Full(layer, item);
      }
      full.push_back(timer.Lap());
      for (uint32_t layer = 0; layer < model_.layers; ++layer) {
        for (uint32_t item = 0; item < batch_; ++item) Kernels(layer, item);
      }
      kernels.push_back(timer.Lap());
      PASSBAND_RETURN_IF_ERROR(Decode(drifting));
      engine.push_back(decode_seconds_);
    }
    return Summary(drifting, Median(full), Median(kernels), Median(engine));
  }

 private:
  Experiment(const Options& options, uint64_t context, uint32_t batch)
      : options_(options),
        context_(context),
        batch_(batch),
        model_(MakeModel(options, LayersFor(options, context, batch))),
        scale_(1 / std::sqrt(static_cast<float>(model_.head.head_dim))) {}

  static uint32_t LayersFor(const Options& options, uint64_t context, uint32_t batch) {
    const uint64_t layer_bytes =
        context * batch * options.kv_heads * kernels::HeadShape{}.row_bytes();
    return std::max<uint32_t>(kMinLayers, static_cast<uint32_t>(kMinKvBytes / layer_bytes));
  }

  size_t row_bytes() const { return model_.head.row_bytes(); }
  size_t query_floats() const { return size_t{model_.query_heads} * model_.head.head_dim; }
  size_t head_floats() const { return size_t{model_.group()} * model_.head.head_dim; }
  size_t Index(uint32_t layer, uint32_t item) const { return size_t{layer} * batch_ + item; }
  const std::byte* HeadRows(uint32_t layer, uint32_t item, uint32_t head) const {
    return rows_[Index(layer, item)].data() + head * context_ * row_bytes();
  }

  // Normal numbers are slow to draw: a pool of them, entered at random places.
  std::vector<std::byte> MakeRows(uint64_t tokens) {
    const size_t values = row_bytes() / 2;
    std::vector<std::byte> rows(model_.kv_heads * tokens * row_bytes());
    for (size_t at = 0; at < rows.size(); at += row_bytes()) {
      const size_t start = random_() % (pool_.size() - values);
      kernels::FloatToDType(pool_.data() + start, values, model_.head.dtype, rows.data() + at);
    }
    return rows;
  }

  Status Fill() {
    const uint64_t bytes = model_.token_bytes() * batch_ * (context_ + 1024);
    PASSBAND_ASSIGN_OR_RETURN(service_, EmbeddedService::Create(bytes + (uint64_t{64} << 20)));
    PASSBAND_ASSIGN_OR_RETURN(auto profile, MakeProfile(model_));
    EngineOptions options;
    options.select.budget = options_.budget;
    options.hot_rows = options_.hot_rows;
    PASSBAND_ASSIGN_OR_RETURN(engine_,
                              Engine::Create(service_.get(), model_, std::move(profile), options));
    for (uint32_t item = 0; item < batch_; ++item) {
      PASSBAND_ASSIGN_OR_RETURN(auto sequence, engine_->Open({}));
      sequences_.push_back(std::move(sequence));
    }
    for (uint32_t layer = 0; layer < model_.layers; ++layer) {
      for (uint32_t item = 0; item < batch_; ++item) {
        rows_.push_back(MakeRows(context_));
        queries_.push_back(Normals(query_floats(), random_));
        PASSBAND_RETURN_IF_ERROR(
            engine_->AppendRows(*sequences_[item], layer, 0, context_, rows_.back().data()));
      }
    }
    out_.resize(query_floats());
    outs_.resize(batch_ * query_floats());
    return OkStatus();
  }

  void Drift() {
    const float keep = 1 / std::sqrt(1 + options_.drift * options_.drift);
    for (std::vector<float>& queries : queries_) {
      size_t at = random_() % (pool_.size() - queries.size());
      for (float& query : queries) query = (query + options_.drift * pool_[at++]) * keep;
    }
  }

  // One token of every sequence through all layers.
  Status Decode(bool drifting) {
    if (drifting) Drift();
    const std::vector<std::byte> new_rows = MakeRows(1);
    decode_seconds_ = 0;
    for (uint32_t layer = 0; layer < model_.layers; ++layer) {
      items_.clear();
      for (uint32_t item = 0; item < batch_; ++item) {
        items_.push_back({.sequence = sequences_[item].get(),
                          .queries = queries_[Index(layer, item)].data(),
                          .new_rows = new_rows.data(),
                          .out = outs_.data() + item * query_floats()});
      }
      LapTimer timer;
      PASSBAND_RETURN_IF_ERROR(engine_->Step(layer, items_));
      decode_seconds_ += timer.Lap();
    }
    return OkStatus();
  }

  kernels::FacParams Params(uint32_t layer, uint32_t item, uint32_t head) {
    return {.shape = model_.head,
            .group = static_cast<int>(model_.group()),
            .scale = scale_,
            .queries = queries_[Index(layer, item)].data() + head * head_floats(),
            .out = out_.data() + head * head_floats()};
  }

  void Full(uint32_t layer, uint32_t item) {
    for (uint32_t head = 0; head < model_.kv_heads; ++head) {
      kernels::FacContiguous(Params(layer, item, head), HeadRows(layer, item, head), context_);
    }
  }

  void Kernels(uint32_t layer, uint32_t item) {
    for (uint32_t head = 0; head < model_.kv_heads; ++head) {
      const kernels::FacParams params = Params(layer, item, head);
      const kernels::SliceIndex& slices = *sequences_[item]->slices(layer, head);
      scores_.resize(slices.tokens());
      kernels::TipScores(slices, params.queries, params.group, scale_, tip_scratch_,
                         scores_.data());
      kernels::SelectTokens(scores_, engine_->options().select, select_scratch_, selected_);
      pointers_.clear();
      for (const uint32_t token : selected_) {
        pointers_.push_back(HeadRows(layer, item, head) + token % context_ * row_bytes());
      }
      kernels::Fac(params, pointers_);
    }
  }

  Result Summary(bool drifting, double full, double kernels, double engine) const {
    const double to_us = 1e6 / model_.layers;
    const EngineStats stats = engine_->stats();
    const double phase_us = to_us / options_.repetitions;
    return {.context = context_,
            .batch = batch_,
            .drifting = drifting,
            .full = full * to_us,
            .kernels = kernels * to_us,
            .engine = engine * to_us,
            .tip = stats.tip_seconds * phase_us,
            .select = stats.select_seconds * phase_us,
            .cache = stats.cache_seconds * phase_us,
            .fetch = stats.fetch_seconds * phase_us,
            .fac = stats.fac_seconds * phase_us,
            .missing = static_cast<double>(stats.fetched_rows) /
                       static_cast<double>(std::max<uint64_t>(1, stats.selected_rows))};
  }

  const Options& options_;
  uint64_t context_;
  uint32_t batch_;
  ModelInfo model_;
  float scale_;
  std::mt19937 random_{1};
  std::vector<float> pool_ = Normals(size_t{1} << 20, random_);
  std::unique_ptr<KvService> service_;
  std::unique_ptr<Engine> engine_;
  std::vector<std::unique_ptr<WorkerSequence>> sequences_;
  std::vector<std::vector<std::byte>> rows_;  // [layer][item]
  std::vector<std::vector<float>> queries_;   // [layer][item]
  std::vector<StepItem> items_;
  std::vector<float> out_, outs_, scores_;
  std::vector<uint32_t> selected_;
  std::vector<const std::byte*> pointers_;
  kernels::TipScratch tip_scratch_;
  kernels::SelectScratch select_scratch_;
  double decode_seconds_ = 0;
};

void PrintRow(const Result& r) {
  fmt::print(
      "{:>7} {:>5} {:>5} {:>9.1f} {:>9.1f} {:>9.1f} {:>7.1f}% {:>6.2f}x{:>7.1f}% |{:>7.1f} "
      "{:>7.1f} {:>7.1f} {:>7.1f} {:>7.1f}\n",
      r.context, r.batch, r.drifting ? "drift" : "hot", r.full, r.kernels, r.engine,
      100 * r.overhead(), r.ratio(), 100 * r.missing, r.tip, r.select, r.cache, r.fetch, r.fac);
  std::fflush(stdout);
}

nlohmann::json ToJson(const Options& options, const std::vector<Result>& results) {
  nlohmann::json json = {{"kv_heads", options.kv_heads},
                         {"group", options.group},
                         {"head_dim", 128},
                         {"slices", "int2 x 24"},
                         {"budget", options.budget},
                         {"unit", "microseconds a layer"},
                         {"results", nlohmann::json::array()}};
  for (const Result& r : results) {
    json["results"].push_back({{"context", r.context},
                               {"batch", r.batch},
                               {"queries", r.drifting ? "drift" : "hot"},
                               {"full", r.full},
                               {"kernels", r.kernels},
                               {"engine", r.engine},
                               {"overhead", r.overhead()},
                               {"ratio", r.ratio()},
                               {"missing", r.missing},
                               {"phases",
                                {{"tip", r.tip},
                                 {"select", r.select},
                                 {"cache", r.cache},
                                 {"fetch", r.fetch},
                                 {"fac", r.fac}}}});
  }
  return json;
}

StatusOr<std::vector<Result>> RunAll(const Options& options) {
  std::vector<Result> results;
  for (const uint32_t batch : options.batches) {
    for (const uint64_t context : options.contexts) {
      if (batch > 1 && context * batch > options.max_batch_tokens) continue;
      PASSBAND_ASSIGN_OR_RETURN(auto experiment, Experiment::Create(options, context, batch));
      for (const bool drifting : {false, true}) {
        PASSBAND_ASSIGN_OR_RETURN(const Result result, experiment->Run(drifting));
        PrintRow(result);
        results.push_back(result);
      }
    }
  }
  return results;
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("A decode step through the engine against full attention, one core");
  app.add_option("--contexts", options.contexts, "Context lengths in tokens")->delimiter(',');
  app.add_option("--batch", options.batches, "Sequences a step")->delimiter(',');
  app.add_option("--max-batch-tokens", options.max_batch_tokens,
                 "Leaves out batches with more tokens in all");
  app.add_option("--kv-heads", options.kv_heads)->check(CLI::Range(1, 64));
  app.add_option("--group", options.group, "Query heads a kv head")->check(CLI::Range(1, 16));
  app.add_option("--budget", options.budget, "Rows attended to")->check(CLI::Range(68, 16384));
  app.add_option("--hot-rows", options.hot_rows, "Row slots a head; 0: 4 x budget");
  app.add_option("--drift", options.drift, "How far a query moves, against its length");
  app.add_option("--repetitions", options.repetitions)->check(CLI::Range(1, 900));
  app.add_option("--json", options.json, "Also write the results to this file");
  CLI11_PARSE(app, argc, argv);
  fmt::print(
      "{} kv heads x {} query heads, head_dim 128, bf16 rows, 24 chunks in 2 bit, budget {}\n"
      "microseconds of one layer's step; phases of the engine on the right\n"
      "{:>7} {:>5} {:>5} {:>9} {:>9} {:>9} {:>8} {:>7} {:>7} |{:>7} {:>7} {:>7} {:>7} {:>7}\n",
      options.kv_heads, options.group, options.budget, "context", "batch", "query", "full",
      "kernels", "engine", "over", "faster", "missing", "tip", "select", "cache", "fetch", "fac");
  const auto results = RunAll(options);
  if (!results.ok()) {
    fmt::print(stderr, "{}\n", results.status().ToString());
    return 1;
  }
  if (options.json.empty()) return 0;
  std::ofstream file(options.json);
  file << ToJson(options, *results).dump(2) << "\n";
  if (file.flush()) return 0;
  fmt::print(stderr, "cannot write {}\n", options.json);
  return 1;
}

}  // namespace
}  // namespace passband

int main(int argc, char** argv) { return passband::Main(argc, argv); }
