// Benchmarks of kvstore/: what one request costs the store, without moving rows.
// Shapes as Llama-3.1-8B's: 32 layers, 8 kv heads, rows of 512 bytes (fewer
// layers where the layer count does not matter).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "base/units.h"
#include "kvstore/store.h"

namespace passband {
namespace {

constexpr char kTenant[] = "bench";

void Require(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

std::unique_ptr<Store> MakeStore(uint64_t bytes, const KvShape& shape) {
  auto store = Store::Create({.arena = {.bytes = bytes, .pre_touch = false}});
  Require(store.status());
  Require((*store)->RegisterModel({.fingerprint = "m", .name = "", .shape = shape}));
  return *std::move(store);
}

SequenceId OpenSequence(Store& store, std::vector<uint32_t> ids = {}) {
  const auto opened = store.Open(
      {.tenant = kTenant, .model = "m", .owner = OwnerId(1), .token_ids = std::move(ids)});
  Require(opened.status());
  return opened->id;
}

void AppendBlocks(Store& store, SequenceId id, const KvShape& shape, uint64_t tokens) {
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (uint64_t first = 0; first < tokens; first += kBlockTokens) {
      auto slot = store.BeginAppend(kTenant, id, layer, first, kBlockTokens);
      Require(slot.status());
      Require(slot->Commit());
    }
  }
}

std::vector<uint32_t> Prompt(uint64_t tokens) {
  std::vector<uint32_t> ids(tokens);
  std::iota(ids.begin(), ids.end(), 1);
  return ids;
}

// 2048 rows: 256 tokens of each of 8 kv heads, over a context of range(0) tokens.
// range(1): how many of a head's tokens are also the head before's, in percent.
void BM_Resolve2048(benchmark::State& state) {
  constexpr KvShape kShape{.layers = 1, .kv_heads = 8, .row_bytes = 512};
  const auto context = static_cast<uint64_t>(state.range(0));
  const auto store = MakeStore(context * kShape.token_bytes() + 64 * kMiB, kShape);
  const SequenceId id = OpenSequence(*store);
  AppendBlocks(*store, id, kShape, context);
  std::mt19937_64 random(1);
  std::vector<std::vector<uint32_t>> tokens(kShape.kv_heads);
  std::vector<RowGroup> groups;
  for (uint32_t head = 0; head < kShape.kv_heads; ++head) {
    for (size_t i = 0; i < 256; ++i) {
      const bool same = head > 0 && random() % 100 < static_cast<uint64_t>(state.range(1));
      tokens[head].push_back(same ? tokens[head - 1][i]
                                  : static_cast<uint32_t>(random() % context));
    }
    std::sort(tokens[head].begin(), tokens[head].end());
    groups.push_back({.sequence = id, .layer = 0, .kv_head = head, .tokens = tokens[head]});
  }
  PinnedRows rows;
  for (auto _ : state) {
    rows.Clear();
    Require(store->Resolve(kTenant, groups, rows));
    benchmark::DoNotOptimize(rows.rows().data());
  }
  state.SetItemsProcessed(state.iterations() * 2048);
}
BENCHMARK(BM_Resolve2048)
    ->ArgNames({"context", "same"})
    ->Args({8192, 0})
    ->Args({32768, 0})
    ->Args({32768, 50});

// One step of a batch: 16 sequences, 8 heads, 16 rows each.
void BM_ResolveBatch(benchmark::State& state) {
  constexpr KvShape kShape{.layers = 1, .kv_heads = 8, .row_bytes = 512};
  const auto store = MakeStore(16 * 4096 * kShape.token_bytes() + 64 * kMiB, kShape);
  std::mt19937_64 random(1);
  std::vector<std::vector<uint32_t>> tokens;
  std::vector<RowGroup> groups;
  tokens.reserve(16 * 8);
  for (int i = 0; i < 16; ++i) {
    const SequenceId id = OpenSequence(*store);
    AppendBlocks(*store, id, kShape, 4096);
    for (uint32_t head = 0; head < 8; ++head) {
      auto& list = tokens.emplace_back(16);
      for (uint32_t& token : list) token = static_cast<uint32_t>(random() % 4096);
      std::sort(list.begin(), list.end());
      groups.push_back({.sequence = id, .layer = 0, .kv_head = head, .tokens = list});
    }
  }
  PinnedRows rows;
  for (auto _ : state) {
    rows.Clear();
    Require(store->Resolve(kTenant, groups, rows));
  }
  state.SetItemsProcessed(state.iterations() * 2048);
}
BENCHMARK(BM_ResolveBatch);

void BM_ArenaAllocateFree(benchmark::State& state) {
  auto arena = Arena::Create({.bytes = 256 * kMiB, .pre_touch = false});
  Require(arena.status());
  for (auto _ : state) {
    std::byte* const slot = (*arena)->Allocate(256 * kKiB, nullptr);
    benchmark::DoNotOptimize(slot);
    (*arena)->Free(slot);
  }
}
BENCHMARK(BM_ArenaAllocateFree);

// Open finds 8k tokens of 32 layers: 4096 blocks; Close lets them go.
void BM_OpenPrefixHit8k(benchmark::State& state) {
  constexpr KvShape kShape{.layers = 32, .kv_heads = 1, .row_bytes = 16};
  const auto store = MakeStore(256 * kMiB, kShape);
  const auto prompt = Prompt(8192);
  AppendBlocks(*store, OpenSequence(*store, prompt), kShape, 8192);
  for (auto _ : state) {
    const SequenceId id = OpenSequence(*store, prompt);
    Require(store->Close(kTenant, id));
  }
}
BENCHMARK(BM_OpenPrefixHit8k)->Unit(benchmark::kMicrosecond);

// One decoded token's row of one layer; the sequence starts again at 4096.
void BM_AppendOneToken(benchmark::State& state) {
  constexpr KvShape kShape{.layers = 1, .kv_heads = 8, .row_bytes = 512};
  const auto store = MakeStore(64 * kMiB, kShape);
  const SequenceId id = OpenSequence(*store);
  uint64_t next = 0;
  for (auto _ : state) {
    auto slot = store->BeginAppend(kTenant, id, 0, next, 1);
    Require(slot.status());
    Require(slot->Commit());
    if (++next == 4096) {
      Require(store->Truncate(kTenant, id, 0));
      next = 0;
    }
  }
}
BENCHMARK(BM_AppendOneToken);

// Whole blocks, into memory that only cached prefixes hold: each allocation
// evicts.
void BM_AppendBlockEvicting(benchmark::State& state) {
  constexpr KvShape kShape{.layers = 1, .kv_heads = 8, .row_bytes = 512};
  const auto store = MakeStore(16 * kMiB, kShape);
  uint32_t prompt = 0;
  for (auto _ : state) {
    const SequenceId id = OpenSequence(*store, std::vector<uint32_t>(kBlockTokens, ++prompt));
    auto slot = store->BeginAppend(kTenant, id, 0, 0, kBlockTokens);
    Require(slot.status());
    Require(slot->Commit());
    Require(store->Close(kTenant, id));
  }
}
BENCHMARK(BM_AppendBlockEvicting);

}  // namespace
}  // namespace passband

BENCHMARK_MAIN();
