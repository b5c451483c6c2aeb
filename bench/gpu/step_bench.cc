// Times one layer's sparse decode step on the GPU: TIP + select, FAC, and both, at the
// shape of Llama-3.1-8B (32 query heads, 8 kv heads, head_dim 128), 24 chunks, all rows
// on the GPU. Each configuration is recorded as one graph over several sets of buffers,
// together larger than the caches; the figure is the median over launches, per step.
// Prints one JSON line a configuration; also the copy ceilings of the machine.
//
//   gpu_step_bench [--quick] | --int2 TOKENS BATCH | --int4 TOKENS BATCH
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "bench/gpu/random_fill.h"
#include "kernels/cuda/fac.h"
#include "kernels/cuda/gather.h"
#include "kernels/cuda/slices.h"
#include "kernels/cuda/tip_select.h"
#include "tests/kernels/cuda/gpu.h"

namespace passband::bench {
namespace {

using namespace kernels;        // NOLINT: the benchmark is about nothing else
using namespace kernels::cuda;  // NOLINT

constexpr int kKvHeads = 8;
constexpr int kGroup = 4;
constexpr uint16_t kHeadDim = 128;
constexpr size_t kRotated = size_t{256} << 20;  // bytes of slices that the sets come to
constexpr size_t kMostRows = size_t{36} << 30;  // bytes of rows, at most
constexpr int kLaunches = 15;

double Microseconds(const Stream& stream, const std::function<void()>& work) {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  cudaEventCreate(&begin);
  cudaEventCreate(&end);
  // Until the clocks have risen.
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(30);
  do {
    work();
    Require(stream.Synchronize());
  } while (std::chrono::steady_clock::now() < until);
  std::vector<float> times;
  for (int i = 0; i < kLaunches; ++i) {
    cudaEventRecord(begin, stream.handle());
    work();
    cudaEventRecord(end, stream.handle());
    Require(stream.Synchronize());
    float milliseconds = 0;
    cudaEventElapsedTime(&milliseconds, begin, end);
    times.push_back(milliseconds);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::nth_element(times.begin(), times.begin() + kLaunches / 2, times.end());
  return 1e3 * static_cast<double>(times[kLaunches / 2]);
}

// The buffers of one context and batch, for one encoding.
class Bench {
 public:
  Bench(const Stream& stream, const DeviceInfo& device, SliceEncoding encoding, uint32_t tokens,
        int batch)
      : stream_(stream), device_(device), tokens_(tokens), batch_(batch) {
    std::vector<SliceSpec> specs(kKvHeads);
    for (SliceSpec& spec : specs) {
      spec.encoding = encoding;
      for (uint16_t i = 0; i < 24; ++i) spec.chunks.push_back(static_cast<uint16_t>(63 - 2 * i));
      spec.mean.assign(48, 0.0F);
      spec.deviation.assign(48, 1.0F);
    }
    recipes_ = Require(SliceRecipes::Upload(specs));
    problems_ = static_cast<size_t>(batch) * kKvHeads;
    const size_t of_problem = recipes_.shape().index_bytes(tokens);
    slice_bytes_ = problems_ * of_problem;
    sets_ = std::clamp<size_t>(kRotated / slice_bytes_, 2, 64);
    const size_t row_bytes = problems_ * tokens * 4 * kHeadDim;
    row_sets_ = std::clamp<size_t>(kMostRows / row_bytes, 1, sets_);
    const Array<uint32_t> tokens_there(stream, std::vector<uint32_t>(1, tokens));
    tiles_ = std::make_unique<Array<std::byte>>(stream, sets_ * slice_bytes_);
    rows_ = std::make_unique<Array<std::byte>>(stream, row_sets_ * row_bytes);
    FillRandomBits(tiles_->data(), tiles_->size(), 1, stream.handle());
    FillRandomBf16(rows_->data(), rows_->size(), 2, stream.handle());
    std::vector<std::byte*> tile_pointers;
    std::vector<const std::byte*> pages;
    for (size_t i = 0; i < sets_ * problems_; ++i) {
      tile_pointers.push_back(tiles_->data() + i * of_problem);
      pages.push_back(rows_->data() + i % (row_sets_ * problems_) * tokens * 4 * kHeadDim);
    }
    tile_pointers_ = std::make_unique<Array<std::byte*>>(stream, tile_pointers);
    pages_ = std::make_unique<Array<const std::byte*>>(stream, pages);
    counts_of_tokens_ = std::make_unique<Array<uint32_t>>(
        stream, std::vector<uint32_t>(static_cast<size_t>(batch), tokens));
    std::mt19937 engine(7);
    std::normal_distribution<float> normal(0.0F, 3.0F);
    std::vector<float> queries(problems_ * kGroup * kHeadDim);
    for (float& q : queries) q = normal(engine);
    queries_ = std::make_unique<Array<float>>(stream, queries);
    out_ = std::make_unique<Array<float>>(stream, queries.size());
  }

  // blocks, per_processor: the layout of TIP; 0: as planned.
  void Run(const char* encoding, uint32_t budget, int blocks = 0, int per_processor = 0) {
    Array<uint32_t> selected(stream_, sets_ * problems_ * budget);
    Array<uint32_t> counts(stream_, sets_ * problems_);
    std::vector<TipSelectArgs> tips(sets_);
    std::vector<FacArgs> facs(sets_);
    for (size_t set = 0; set < sets_; ++set) {
      TipSelectArgs& tip = tips[set];
      tip.recipes = &recipes_;
      tip.sequences = batch_;
      tip.group = kGroup;
      tip.scale = 1.0F / std::sqrt(float{kHeadDim});
      tip.select.budget = budget;
      tip.max_tokens = tokens_;
      tip.tiles = tile_pointers_->data() + set * problems_;
      tip.tokens = counts_of_tokens_->data();
      tip.queries = queries_->data();
      tip.selected = selected.data() + set * problems_ * budget;
      tip.counts = counts.data() + set * problems_;
      FacArgs& fac = facs[set];
      fac.problems = static_cast<int>(problems_);
      fac.group = kGroup;
      fac.scale = tip.scale;
      fac.max_rows = budget;
      fac.counts = tip.counts;
      fac.indices = tip.selected;
      fac.pages = pages_->data() + set * problems_;
      fac.queries = queries_->data();
      fac.out = out_->data();
    }
    const TipSelectPlan plan =
        Require(blocks == 0 ? PlanTipSelect(tips[0], device_)
                            : PlanTipSelectAs(tips[0], device_, blocks, per_processor));
    const Array<std::byte> workspace(stream_, plan.workspace_bytes);
    for (TipSelectArgs& tip : tips) tip.workspace = workspace.data();
    const FacPlan fac_plan = Require(PlanFac(facs[0], device_));
    const auto time = [&](bool tip, bool fac) {
      const Graph graph = Require(Graph::Capture(stream_, [&](StreamHandle stream) {
        for (size_t set = 0; set < sets_; ++set) {
          if (tip) {
            if (auto status = TipSelect(tips[set], plan, stream); !status.ok()) return status;
          }
          if (fac) {
            if (auto status = Fac(facs[set], fac_plan, stream); !status.ok()) return status;
          }
        }
        return absl::OkStatus();
      }));
      return Microseconds(stream_, [&] { Require(graph.Launch(stream_.handle())); }) /
             static_cast<double>(sets_);
    };
    const double tip = time(true, false);
    const double fac = time(false, true);
    const double step = time(true, true);
    std::printf(
        "{\"case\": \"step\", \"encoding\": \"%s\", \"batch\": %d, \"tokens\": %u, \"budget\": %u, "
        "\"tip_us\": %.2f, \"fac_us\": %.2f, \"step_us\": %.2f, \"tip_gbps\": %.0f, "
        "\"sets\": %zu, \"blocks\": %d, \"threads\": %d, \"held\": %u, \"spilled\": %u, "
        "\"fac_blocks\": %d}\n",
        encoding, batch_, tokens_, budget, tip, fac, step,
        static_cast<double>(slice_bytes_) / tip * 1e-3, sets_, plan.blocks, plan.threads,
        plan.held_tiles, plan.spilled_tiles, fac_plan.blocks);
    std::fflush(stdout);
  }

 private:
  const Stream& stream_;
  DeviceInfo device_;
  uint32_t tokens_;
  int batch_;
  SliceRecipes recipes_;
  size_t problems_ = 0;
  size_t slice_bytes_ = 0;
  size_t sets_ = 0;
  size_t row_sets_ = 0;
  std::unique_ptr<Array<std::byte>> tiles_;
  std::unique_ptr<Array<std::byte>> rows_;
  std::unique_ptr<Array<std::byte*>> tile_pointers_;
  std::unique_ptr<Array<const std::byte*>> pages_;
  std::unique_ptr<Array<uint32_t>> counts_of_tokens_;
  std::unique_ptr<Array<float>> queries_;
  std::unique_ptr<Array<float>> out_;
};

void CopyCeilings(const Stream& stream) {
  constexpr size_t kBytes = size_t{1} << 30;
  const Array<std::byte> a(stream, kBytes);
  const Array<std::byte> b(stream, kBytes);
  const Array<std::byte> host(stream, kBytes, MemoryKind::kPinned);
  FillRandomBits(a.data(), kBytes, 3, stream.handle());
  const auto copy = [&](void* to, const void* from, size_t bytes) {
    return Microseconds(stream, [&, to, from, bytes] {
      cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream.handle());
    });
  };
  const double device = copy(b.data(), a.data(), kBytes);
  copy(host.data(), a.data(), kBytes);
  const double pinned = copy(b.data(), host.data(), kBytes);
  std::printf("{\"case\": \"copy\", \"device_gbps\": %.0f, \"pinned_gbps\": %.1f}\n",
              2e-3 * kBytes / device, 1e-3 * kBytes / pinned);
  std::mt19937 engine(5);
  for (const uint32_t rows : {256U, 2048U, 16384U}) {
    constexpr size_t kRow = 4 * kHeadDim;
    std::vector<const std::byte*> pointers(rows);
    for (auto& pointer : pointers) pointer = host.data() + engine() % (kBytes / kRow) * kRow;
    const Array<const std::byte*> there(stream, pointers);
    const GatherArgs args = {there.data(), rows, nullptr, kRow, b.data()};
    const double time = Microseconds(stream, [&] { Require(GatherRows(args, stream.handle())); });
    std::printf("{\"case\": \"pinned gather\", \"rows\": %u, \"us\": %.1f, \"gbps\": %.1f}\n", rows,
                time, 1e-3 * static_cast<double>(rows * kRow) / time);
  }
}

// One configuration as planned, then in all layouts.
int One(SliceEncoding encoding, uint32_t tokens, int batch) {
  const DeviceInfo device = Require(CurrentDevice());
  const Stream stream = Require(Stream::Create());
  Bench bench(stream, device, encoding, tokens, batch);
  bench.Run("one", 256);
  for (int blocks = 1; blocks <= 16; blocks *= 2) {
    for (const int per_processor : {1, 2}) bench.Run("one", 256, blocks, per_processor);
  }
  return 0;
}

int Main(bool quick) {
  const DeviceInfo device = Require(CurrentDevice());
  const Stream stream = Require(Stream::Create());
  std::printf("{\"case\": \"device\", \"name\": \"%s\"}\n", device.name);
  CopyCeilings(stream);
  struct {
    const char* name;
    SliceEncoding encoding;
  } const encodings[] = {{"int2", SliceEncoding::kInt2}, {"int4", SliceEncoding::kInt4}};
  for (const uint32_t tokens : {8192U, 32768U, 131072U, 1048576U}) {
    for (const int batch : {1, 4, 8, 16}) {
      if (tokens > 131072 && batch > 1) continue;
      for (const auto& encoding : encodings) {
        Bench bench(stream, device, encoding.encoding, tokens, batch);
        bench.Run(encoding.name, 256);
        if (quick) continue;
        bench.Run(encoding.name, 512);
        bench.Run(encoding.name, 1024);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace passband::bench

int main(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "";
  if (argc > 3 && (first == "--int2" || first == "--int4")) {
    const auto encoding = first == "--int2" ? passband::kernels::SliceEncoding::kInt2
                                            : passband::kernels::SliceEncoding::kInt4;
    return passband::bench::One(encoding, static_cast<uint32_t>(std::atoi(argv[2])),
                                std::atoi(argv[3]));
  }
  return passband::bench::Main(argc > 1 && std::strcmp(argv[1], "--quick") == 0);
}
