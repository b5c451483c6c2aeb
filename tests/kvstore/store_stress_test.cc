// Goal: threads that append, commit for one another, fork, truncate, close, evict
// and read at once neither race nor ever see a row that is not the one asked for,
// nor a pinned row change. Meant for ThreadSanitizer; true without it as well.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "base/mutex.h"
#include "base/thread.h"
#include "base/units.h"
#include "kvstore/store.h"
#include "tests/kvstore/memory_catalog.h"
#include "tests/kvstore/memory_tier.h"

namespace passband {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kRounds = 4'000;
#else
constexpr int kRounds = 60'000;
#endif
constexpr uint64_t kFewestRows = 1000;
constexpr int kTenants = 2;
constexpr KvShape kShape{.layers = 2, .kv_heads = 2, .row_bytes = 32};

std::string TenantName(uint64_t tenant) { return "tenant-" + std::to_string(tenant); }

// A row says itself where it belongs.
struct Row {
  uint64_t place = 0;  // tenant, layer, head
  uint64_t token = 0;
  uint64_t nonce = 0;  // differs from writing to writing
  uint64_t sum = 0;

  static uint64_t Place(uint64_t tenant, uint32_t layer, uint64_t head) {
    return tenant << 32 | uint64_t{layer} << 16 | head;
  }
  uint64_t Sum() const { return (place * 31 + token) * 0x9E3779B97F4A7C15ull ^ nonce; }
};
static_assert(sizeof(Row) == kShape.row_bytes);

struct Handed {
  uint64_t tenant;
  uint32_t layer;
  uint64_t first;
  uint32_t count;
  Store::AppendSlot slot;
};

class StoreStress : public testing::Test {
 protected:
  void Start(const Store::Options& options) {
    auto store = Store::Create(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    ASSERT_TRUE(store_->RegisterModel({.fingerprint = "m", .name = "", .shape = kShape}).ok());
  }

  void Write(uint64_t seed);
  void WriteOnce(uint64_t tenant, std::mt19937_64& random);
  void Append(uint64_t tenant, SequenceId id, std::mt19937_64& random);
  void FinishHanded(std::mt19937_64& random);
  void Fill(const Handed& handed, uint64_t nonce);
  void Read(uint64_t seed);
  void Disturb(uint64_t seed);
  void RunThreads();

  std::atomic<uint64_t>& Shared(std::mt19937_64& random, uint64_t tenant) {
    return ids_[tenant][random() % ids_[tenant].size()];
  }

  MemoryTier tier_{64 * kMiB, kMiB};
  MemoryCatalog catalog_;
  std::unique_ptr<Store> store_;
  std::array<std::array<std::atomic<uint64_t>, 6>, kTenants> ids_{};
  Mutex handed_mutex_;
  std::vector<Handed> handed_ ABSL_GUARDED_BY(handed_mutex_);
  std::atomic<uint64_t> rows_read_{0};
  std::atomic<uint64_t> commits_{0};
  std::atomic<uint64_t> wrong_{0};
};

void StoreStress::Fill(const Handed& handed, uint64_t nonce) {
  std::vector<Row> rows;
  for (uint32_t head = 0; head < kShape.kv_heads; ++head) {
    for (uint64_t t = handed.first; t < handed.first + handed.count; ++t) {
      Row row{.place = Row::Place(handed.tenant, handed.layer, head), .token = t, .nonce = nonce};
      row.sum = row.Sum();
      rows.push_back(row);
    }
  }
  handed.slot.Scatter(std::as_bytes(std::span(rows)).data());
}

// Slots are finished by whichever thread comes by, in any order.
void StoreStress::FinishHanded(std::mt19937_64& random) {
  std::unique_ptr<Handed> handed;
  {
    MutexLock lock(handed_mutex_);
    if (handed_.empty()) return;
    std::swap(handed_[random() % handed_.size()], handed_.back());
    handed = std::make_unique<Handed>(std::move(handed_.back()));
    handed_.pop_back();
  }
  if (random() % 50 == 0) return;  // given up
  Fill(*handed, random());
  if (handed->slot.Commit().ok()) ++commits_;
}

void StoreStress::Append(uint64_t tenant, SequenceId id, std::mt19937_64& random) {
  std::array<uint64_t, kShape.layers> next{};
  const auto info = store_->Stat(TenantName(tenant), id);
  if (!info.ok()) return;
  next.fill(info->committed_tokens);
  for (int i = 0; i < 8; ++i) {
    const uint32_t layer = static_cast<uint32_t>(i % kShape.layers);
    const uint64_t first = next[layer];
    const uint64_t room = kBlockTokens - first % kBlockTokens;
    const uint32_t count = static_cast<uint32_t>(random() % 2 == 0 ? room : 1 + random() % room);
    auto slot = store_->BeginAppend(TenantName(tenant), id, layer, first, count);
    if (!slot.ok()) continue;
    next[layer] = first + count;
    MutexLock lock(handed_mutex_);
    handed_.push_back({tenant, layer, first, count, *std::move(slot)});
  }
  for (int i = 0; i < 8; ++i) FinishHanded(random);
}

void StoreStress::WriteOnce(uint64_t tenant, std::mt19937_64& random) {
  const std::string name = TenantName(tenant);
  std::atomic<uint64_t>& shared = Shared(random, tenant);
  const SequenceId id(shared.load());
  switch (random() % 12) {
    case 0: {
      std::vector<uint32_t> prompt(random() % 300, static_cast<uint32_t>(random() % 3));
      const auto opened = store_->Open({.tenant = name,
                                        .model = "m",
                                        .owner = OwnerId(random() % 8),
                                        .token_ids = std::move(prompt)});
      ASSERT_TRUE(opened.ok()) << opened.status();
      (void)store_->Close(name, SequenceId(shared.exchange(opened->id.value())));
      break;
    }
    case 1: {
      const auto info = store_->Stat(name, id);
      if (!info.ok()) break;
      const auto fork =
          store_->Fork(name, id, random() % (info->committed_tokens + 1), OwnerId(random() % 8));
      if (fork.ok()) {
        (void)store_->Close(name, SequenceId(Shared(random, tenant).exchange(fork->value())));
      }
      break;
    }
    case 2:
    case 3: {
      const auto info = store_->Stat(name, id);
      if (info.ok()) (void)store_->Truncate(name, id, random() % (info->committed_tokens + 1));
      break;
    }
    case 5:
      if (random() % 4 == 0) (void)store_->Seal(name, id);
      break;
    case 4: {
      const auto info = store_->Stat(name, id);
      const std::vector<uint32_t> more(random() % 100, static_cast<uint32_t>(random() % 3));
      if (info.ok()) (void)store_->ExtendTokenIds(name, id, info->known_tokens, more);
      break;
    }
    default:
      Append(tenant, id, random);
  }
}

void StoreStress::Write(uint64_t seed) {
  std::mt19937_64 random(seed);
  for (int i = 0; i < kRounds && !HasFailure(); ++i) WriteOnce(random() % kTenants, random);
}

void StoreStress::Read(uint64_t seed) {
  std::mt19937_64 random(seed);
  PinnedRows rows;
  // More rounds where those were over before the writers had begun.
  for (int i = 0; i < kRounds || (rows_read_ <= kFewestRows && i < 100 * kRounds); ++i) {
    rows.Clear();
    const uint64_t tenant = random() % kTenants;
    const SequenceId id(Shared(random, tenant).load());
    const auto info = store_->Stat(TenantName(tenant), id);
    if (!info.ok() || info->committed_tokens == 0) continue;
    std::vector<uint32_t> tokens(1 + random() % 64);
    for (uint32_t& token : tokens) {
      token = static_cast<uint32_t>(random() % info->committed_tokens);
    }
    const uint32_t layer = static_cast<uint32_t>(random() % kShape.layers);
    const uint32_t head = static_cast<uint32_t>(random() % kShape.kv_heads);
    const RowGroup group{.sequence = id, .layer = layer, .kv_head = head, .tokens = tokens};
    if (!store_->Resolve(TenantName(tenant), {&group, 1}, rows).ok()) continue;
    std::vector<Row> copies(tokens.size());
    for (size_t t = 0; t < tokens.size(); ++t) {
      std::memcpy(&copies[t], rows.rows()[t], sizeof(Row));
      const bool right = copies[t].place == Row::Place(tenant, layer, head) &&
                         copies[t].token == tokens[t] && copies[t].sum == copies[t].Sum();
      if (!right) ++wrong_;
    }
    for (size_t t = 0; t < tokens.size(); ++t) {
      if (std::memcmp(&copies[t], rows.rows()[t], sizeof(Row)) != 0) ++wrong_;
    }
    rows_read_ += tokens.size();
  }
}

void StoreStress::Disturb(uint64_t seed) {
  std::mt19937_64 random(seed);
  for (int i = 0; i < kRounds; ++i) {
    switch (random() % 8) {
      case 0:
        if (random() % 20 == 0) store_->CloseOwned(OwnerId(random() % 8));
        break;
      case 1:
        store_->Evict(16 << 10);
        break;
      case 2:
        (void)store_->Stats();
        break;
      case 3:
        (void)store_->List(TenantName(random() % kTenants), SequenceId(), 4);
        break;
      case 4: {
        const std::vector<uint32_t> prompt(random() % 300, static_cast<uint32_t>(random() % 3));
        (void)store_->Lookup(TenantName(random() % kTenants), "m", prompt);
        break;
      }
      default:
        FinishHanded(random);
    }
  }
}

void StoreStress::RunThreads() {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  {
    std::vector<std::jthread> threads;
    for (uint64_t i = 0; i < 2; ++i) {
      threads.push_back(StartThread("writer", [&, i](const std::stop_token&) { Write(seed + i); }));
      threads.push_back(
          StartThread("reader", [&, i](const std::stop_token&) { Read(seed + 10 + i); }));
    }
    threads.push_back(StartThread("disturb", [&](const std::stop_token&) { Disturb(seed + 20); }));
  }
  EXPECT_EQ(wrong_, 0u);
  EXPECT_GT(rows_read_, kFewestRows);
  EXPECT_GT(commits_, 1000u);
  {
    MutexLock lock(handed_mutex_);
    handed_.clear();
  }
}

TEST_F(StoreStress, RowsAreRightWhateverOthersDo) {
  Start({.arena = {.bytes = 1 << 20, .slab_bytes = 16 << 10}});
  RunThreads();
  for (const SequenceInfo& info : store_->List("", SequenceId(), ~uint64_t{0})) {
    EXPECT_TRUE(store_->Close(info.tenant, info.id).ok());
  }
  store_->Evict(~uint64_t{0});
  EXPECT_EQ(store_->Stats().used_bytes, 0u);
  EXPECT_EQ(store_->Stats().cached_bytes, 0u);
}

// Half the RAM, and a tier: blocks leave and come back all the time, sequences are sealed.
TEST_F(StoreStress, RowsAreRightWhileBlocksLeaveAndComeBack) {
  Start({.arena = {.bytes = 512 << 10, .slab_bytes = 16 << 10},
         .tier = &tier_,
         .catalog = &catalog_,
         .low_watermark = 0.4,
         .high_watermark = 0.7,
         .restore_wait = std::chrono::milliseconds(500)});
  RunThreads();
  const StoreStats stats = store_->Stats();
  EXPECT_GT(stats.restored_blocks, 100u);
  EXPECT_GT(stats.evictions_clean + stats.evictions_dirty, 100u);
  EXPECT_GT(stats.durable_seals, 10u);
  EXPECT_EQ(stats.lost_blocks, 0u);
}

}  // namespace
}  // namespace passband
