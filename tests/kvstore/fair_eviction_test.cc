// Goal: a tenant that takes more than its share of RAM pays for that with its own blocks: those of
// a modest one stay, though they were used less recently; and every byte of RAM is some tenant's.
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <thread>

#include "base/units.h"
#include "kvstore/store.h"
#include "tests/kvstore/memory_tier.h"

namespace passband {
namespace {

using std::chrono::milliseconds;

constexpr KvShape kShape{.layers = 2, .kv_heads = 4, .row_bytes = 16};
const uint64_t kBlock = kShape.block_bytes();  // 4 KiB
constexpr uint64_t kBlocks = 64;               // in RAM
constexpr char kModest[] = "modest";
constexpr char kGreedy[] = "greedy";

class FairEvictionTest : public testing::Test {
 protected:
  void Start(Tier* tier, TenantTable::Quotas quotas = {}) {
    Store::Options options;
    options.arena = {.bytes = kBlocks * kBlock, .huge_pages = false, .slab_bytes = kBlock};
    options.tier = tier;
    options.tenant_quotas = std::move(quotas);
    auto store = Store::Create(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    ASSERT_TRUE(store_->RegisterModel({.fingerprint = "m", .name = "", .shape = kShape}).ok());
  }

  SequenceId Open(const std::string& tenant, std::vector<uint32_t> ids = {}) {
    const auto opened = store_->Open(
        {.tenant = tenant, .model = "m", .owner = OwnerId(1), .token_ids = std::move(ids)});
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened->id;
  }

  static std::vector<std::byte> Rows(SequenceId id, uint32_t layer, uint64_t block) {
    std::mt19937_64 random(id.value() * 1000 + layer * 100 + block);
    std::vector<std::byte> rows(kBlock);
    for (std::byte& b : rows) b = static_cast<std::byte>(random());
    return rows;
  }

  // A column, however long its blocks have to be waited for.
  Status Append(const std::string& tenant, SequenceId id, uint64_t block) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
      auto slot = store_->BeginAppend(tenant, id, layer, block * kBlockTokens, kBlockTokens);
      while (slot.status().code() == StatusCode::kResourceExhausted &&
             std::chrono::steady_clock::now() < end) {
        std::this_thread::sleep_for(milliseconds(1));
        slot = store_->BeginAppend(tenant, id, layer, block * kBlockTokens, kBlockTokens);
      }
      PASSBAND_RETURN_IF_ERROR(slot.status());
      slot->Scatter(Rows(id, layer, block).data());
      PASSBAND_RETURN_IF_ERROR(slot->Commit());
    }
    return OkStatus();
  }

  // Blocks of the sequence that are not in RAM; those that are have their bytes.
  size_t Missing(const std::string& tenant, SequenceId id, uint64_t blocks) {
    size_t missing = 0;
    for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
      for (uint64_t block = 0; block < blocks; ++block) {
        PinnedRows rows;
        MissingBlocks lacking;
        const Status status = store_->ResolveRange(tenant, id, layer, block * kBlockTokens,
                                                   kBlockTokens, rows, lacking);
        EXPECT_TRUE(status.ok()) << status;
        missing += lacking.parts().size();
        if (lacking.empty()) ExpectRows(rows, id, layer, block);
      }
    }
    return missing;
  }

  static void ExpectRows(const PinnedRows& rows, SequenceId id, uint32_t layer, uint64_t block) {
    const std::vector<std::byte> expected = Rows(id, layer, block);
    for (size_t i = 0; i < rows.rows().size(); ++i) {
      ASSERT_EQ(
          0, std::memcmp(rows.rows()[i], expected.data() + i * kShape.row_bytes, kShape.row_bytes))
          << "row " << i << " of block " << block;
    }
  }

  uint64_t RamOf(const std::string& tenant) const {
    for (const TenantUse& use : store_->Tenants(1000)) {
      if (use.tenant == tenant) return use.ram_bytes;
    }
    return 0;
  }

  MemoryTier tier_{64 * kMiB};
  std::unique_ptr<Store> store_;
};

TEST_F(FairEvictionTest, BlocksOfAModestTenantStayInRam) {
  Start(&tier_);
  const SequenceId modest = Open(kModest);
  constexpr uint64_t kHeld = 8;  // columns: a quarter of RAM
  for (uint64_t block = 0; block < kHeld; ++block) {
    ASSERT_TRUE(Append(kModest, modest, block).ok());
  }
  // Ten times RAM, between two uses of what the modest one has a turn of RAM and a half.
  const SequenceId greedy = Open(kGreedy);
  for (uint64_t block = 0; block < 320; ++block) {
    ASSERT_TRUE(Append(kGreedy, greedy, block).ok());
    if (block % 48 == 47) {
      ASSERT_EQ(Missing(kModest, modest, kHeld), 0u) << "after block " << block;
    }
  }
  EXPECT_EQ(RamOf(kModest), kHeld * 2 * kBlock);
  EXPECT_GT(store_->Stats().spilled_bytes, 4 * kBlocks * kBlock);
  // The greedy one has its rows, too, once they are back: at its own expense.
  for (uint64_t block = 0; block < 320; block += 5) {
    PinnedRows rows;
    ASSERT_TRUE(
        store_->ResolveRange(kGreedy, greedy, 1, block * kBlockTokens, kBlockTokens, rows).ok());
    ExpectRows(rows, greedy, 1, block);
  }
  EXPECT_EQ(Missing(kModest, modest, kHeld), 0u);
}

TEST_F(FairEvictionTest, ATenantWithinItsShareGetsRoomAtTheExpenseOfOneBeyond) {
  Start(&tier_);
  const SequenceId greedy = Open(kGreedy);
  for (uint64_t block = 0; block < 100; ++block) {
    ASSERT_TRUE(Append(kGreedy, greedy, block).ok());
  }
  const uint64_t before = RamOf(kGreedy);
  EXPECT_GT(before, kBlocks * kBlock / 2);
  const SequenceId modest = Open(kModest);
  for (uint64_t block = 0; block < 12; ++block) {
    ASSERT_TRUE(Append(kModest, modest, block).ok());
    ASSERT_EQ(Missing(kModest, modest, block + 1), 0u);
  }
  EXPECT_EQ(RamOf(kModest), 24 * kBlock);
  EXPECT_LT(RamOf(kGreedy), before);
}

TEST_F(FairEvictionTest, OneThatUsesNothingAnyMoreDoesNotKeepRamFromTheOthers) {
  Start(&tier_);
  const SequenceId idle = Open("idle");
  for (uint64_t block = 0; block < 16; ++block) ASSERT_TRUE(Append("idle", idle, block).ok());
  const SequenceId busy = Open("busy");
  for (uint64_t block = 0; block < 500; ++block) ASSERT_TRUE(Append("busy", busy, block).ok());
  EXPECT_LT(RamOf("idle"), 4 * kBlock);
  EXPECT_GT(RamOf("busy"), kBlocks * kBlock / 2);
}

TEST_F(FairEvictionTest, CachedPrefixesOfOneBeyondItsShareGoFirst) {
  Start(nullptr);
  const auto prompt = [](uint32_t salt) {
    std::vector<uint32_t> ids(kBlockTokens);
    for (uint32_t i = 0; i < kBlockTokens; ++i) ids[i] = salt * 1000 + i;
    return ids;
  };
  for (uint32_t i = 0; i < 4; ++i) {
    const SequenceId id = Open(kModest, prompt(i));
    ASSERT_TRUE(Append(kModest, id, 0).ok());
    ASSERT_TRUE(store_->Close(kModest, id).ok());
  }
  for (uint32_t i = 0; i < 100; ++i) {
    const SequenceId id = Open(kGreedy, prompt(i));
    ASSERT_TRUE(Append(kGreedy, id, 0).ok());
    ASSERT_TRUE(store_->Close(kGreedy, id).ok());
  }
  for (uint32_t i = 0; i < 4; ++i) {
    const auto found = store_->Lookup(kModest, "m", prompt(i));
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(*found, kBlockTokens) << "prompt " << i;
  }
  EXPECT_EQ(RamOf(kModest), 4 * 2 * kBlock);
}

TEST_F(FairEvictionTest, WhatIsOnlyCachedBeyondAQuotaPays) {
  Start(&tier_, {{"q", {.bytes = 4 * 2 * kBlock, .sequences = {}}}});
  for (uint32_t i = 0; i < 12; ++i) {
    const SequenceId id = Open("q", std::vector<uint32_t>(kBlockTokens, i));
    ASSERT_TRUE(Append("q", id, 0).ok());
    ASSERT_TRUE(store_->Close("q", id).ok());
  }
  EXPECT_EQ(RamOf("q"), 12 * 2 * kBlock);
  const SequenceId other = Open("other");
  for (uint64_t block = 0; block < 22; ++block) ASSERT_TRUE(Append("other", other, block).ok());
  EXPECT_EQ(Missing("other", other, 22), 0u);
  EXPECT_LT(RamOf("q"), 12 * 2 * kBlock);
}

// Whatever tenants do: the RAM of each adds up to what is in use, and is gone with its sequences.
TEST_F(FairEvictionTest, EveryByteOfRamIsSomeTenants) {
  Start(&tier_);
  std::mt19937_64 random(7);
  struct Held {
    std::string tenant;
    SequenceId id;
    uint64_t blocks = 0;
  };
  std::vector<Held> held;
  const auto sum_is_used = [&] {
    uint64_t sum = 0;
    for (const TenantUse& use : store_->Tenants(1000)) sum += use.ram_bytes;
    return sum == store_->Stats().used_bytes;
  };
  for (int step = 0; step < 600; ++step) {
    const uint64_t what = random() % 10;
    if (held.empty() || what == 0) {
      const std::string tenant = fmt::format("t{}", random() % 5);
      const auto salt = static_cast<uint32_t>(random() % 6);
      held.push_back({tenant, Open(tenant, std::vector<uint32_t>(kBlockTokens, salt)), 0});
      held.back().blocks = store_->Stat(tenant, held.back().id)->committed_tokens / kBlockTokens;
      continue;
    }
    Held& some = held[random() % held.size()];
    if (what < 7) {
      ASSERT_TRUE(Append(some.tenant, some.id, some.blocks++).ok());
    } else if (what < 9 && some.blocks > 0) {
      PinnedRows rows;
      const uint64_t block = random() % some.blocks;
      const Status status =
          store_->ResolveRange(some.tenant, some.id, 0, block * kBlockTokens, kBlockTokens, rows);
      ASSERT_TRUE(status.ok()) << status;
    } else {
      ASSERT_TRUE(store_->Close(some.tenant, some.id).ok());
      std::swap(some, held.back());
      held.pop_back();
    }
    if (step % 20 != 0) continue;
    // The evictor may be at work.
    for (int i = 0; i < 5000 && !sum_is_used(); ++i) std::this_thread::sleep_for(milliseconds(1));
    ASSERT_TRUE(sum_is_used()) << "step " << step;
  }
  for (const Held& some : held) ASSERT_TRUE(store_->Close(some.tenant, some.id).ok());
  (void)store_->Evict(kBlocks * kBlock);
  EXPECT_EQ(store_->Stats().used_bytes, 0u);
  for (const TenantUse& use : store_->Tenants(1000)) EXPECT_EQ(use.ram_bytes, 0u) << use.tenant;
}

}  // namespace
}  // namespace passband
