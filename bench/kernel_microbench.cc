// Goal: each kernel alone, data in the near caches, for profiling and for
// watching that none gets slower. attention_bench has the honest whole.
#include <benchmark/benchmark.h>

#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/fac.h"
#include "kernels/gather.h"
#include "kernels/select.h"
#include "kernels/tip.h"

namespace passband::kernels {
namespace {

constexpr size_t kTokens = 8192;
constexpr int kGroup = 4;

std::vector<float> Normals(size_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(engine);
  return values;
}

std::vector<std::byte> Bf16(size_t count, uint32_t seed) {
  std::vector<std::byte> bytes(2 * count);
  FloatToDType(Normals(count, seed).data(), count, DType::kBf16, bytes.data());
  return bytes;
}

std::shared_ptr<const SliceSpec> Spec(SliceEncoding encoding) {
  auto spec = std::make_shared<SliceSpec>();
  spec->encoding = encoding;
  for (uint16_t c = 0; c < 48; c += 2) spec->chunks.push_back(c);
  spec->mean.assign(48, 0.0F);
  spec->deviation.assign(48, 1.0F);
  return spec;
}

void Encode(benchmark::State& state) {
  const auto spec = Spec(static_cast<SliceEncoding>(state.range(0)));
  const auto keys = Bf16(kTokens * 128, 1);
  for (auto _ : state) {
    SliceIndex index(spec);
    index.AppendKeys(keys.data(), 256, kTokens);
    benchmark::DoNotOptimize(index.run(0));
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kTokens));
}
BENCHMARK(Encode)->ArgName("encoding")->DenseRange(0, 4);

void Tip(benchmark::State& state) {
  SliceIndex index(Spec(static_cast<SliceEncoding>(state.range(0))));
  index.AppendKeys(Bf16(kTokens * 128, 1).data(), 256, kTokens);
  const auto queries = Normals(kGroup * 128, 2);
  std::vector<float> scores(kTokens);
  TipScratch scratch;
  for (auto _ : state) {
    TipScores(index, queries.data(), kGroup, 0.088F, scratch, scores.data());
    benchmark::DoNotOptimize(scores.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kTokens));
}
BENCHMARK(Tip)->ArgName("encoding")->DenseRange(0, 4)->Unit(benchmark::kMicrosecond);

void Select(benchmark::State& state) {
  const auto tokens = static_cast<size_t>(state.range(0));
  auto scores = Normals(tokens, 3);
  for (float& score : scores) score = std::exp(2 * score) / static_cast<float>(tokens);
  SelectScratch scratch;
  std::vector<uint32_t> selected;
  for (auto _ : state) {
    SelectTokens(scores, {}, scratch, selected);
    benchmark::DoNotOptimize(selected.data());
  }
}
BENCHMARK(Select)->RangeMultiplier(4)->Range(2048, 131072)->Unit(benchmark::kMicrosecond);

// All scores equal: every token stays a candidate to the end.
void SelectTies(benchmark::State& state) {
  const std::vector<float> scores(static_cast<size_t>(state.range(0)), 0.5F);
  SelectScratch scratch;
  std::vector<uint32_t> selected;
  for (auto _ : state) {
    SelectTokens(scores, {}, scratch, selected);
    benchmark::DoNotOptimize(selected.data());
  }
}
BENCHMARK(SelectTies)->Arg(8192)->Unit(benchmark::kMicrosecond);

void FacRowsInCache(benchmark::State& state) {
  const auto rows = static_cast<size_t>(state.range(0));
  const auto store = Bf16(rows * 256, 4);
  const auto queries = Normals(kGroup * 128, 5);
  std::vector<const std::byte*> pointers;
  for (size_t i = 0; i < rows; ++i) pointers.push_back(store.data() + (i * 97 % rows) * 512);
  std::vector<float> out(kGroup * 128);
  const FacParams params{{}, kGroup, 0.088F, queries.data(), out.data()};
  for (auto _ : state) {
    Fac(params, pointers);
    benchmark::DoNotOptimize(out.data());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(FacRowsInCache)->Arg(64)->Arg(256)->Arg(1024)->Unit(benchmark::kMicrosecond);

void Gather(benchmark::State& state) {
  const auto store = Bf16(kTokens * 256, 6);
  std::mt19937 engine(7);
  std::vector<const std::byte*> pointers;
  for (int i = 0; i < 2048; ++i) pointers.push_back(store.data() + engine() % kTokens * 512);
  std::vector<std::byte> out(2048 * 512);
  for (auto _ : state) {
    GatherRows(pointers, 512, out.data());
    benchmark::DoNotOptimize(out.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(out.size()));
}
BENCHMARK(Gather)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace passband::kernels
