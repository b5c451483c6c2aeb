// Goal: what a tenant is billed for is exactly the blocks that its sequences hold, each once,
// whatever it did to them; and no quota is ever exceeded.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <thread>

#include "kvstore/store.h"

namespace passband {
namespace {

constexpr KvShape kShape = {.layers = 2, .kv_heads = 2, .row_bytes = 64};
const uint64_t kBlock = kShape.block_bytes();
const uint64_t kColumn = kShape.layers * kBlock;
constexpr char kModel[] = "model";

std::unique_ptr<Store> NewStore(const TenantQuota& usual, TenantTable::Quotas quotas = {},
                                uint64_t bytes = 8 << 20) {
  Store::Options options;
  options.arena = {.bytes = bytes, .huge_pages = false};
  options.tenant_quota = usual;
  options.tenant_quotas = std::move(quotas);
  auto store = Store::Create(options);
  EXPECT_TRUE(store.ok()) << store.status();
  EXPECT_TRUE((*store)->RegisterModel({.fingerprint = kModel, .name = "m", .shape = kShape}).ok());
  return *std::move(store);
}

StatusOr<Store::OpenResult> Open(Store& store, const std::string& tenant,
                                 const std::vector<uint32_t>& tokens = {}, uint64_t owner = 1) {
  return store.Open(
      {.tenant = tenant, .model = kModel, .owner = OwnerId(owner), .token_ids = tokens});
}

// Appends to every layer, up to `tokens`; the first error.
Status Grow(Store& store, const std::string& tenant, SequenceId id, uint64_t from,
            uint64_t tokens) {
  for (uint64_t at = from; at < tokens;) {
    const auto count = static_cast<uint32_t>(std::min(tokens - at, 64 - at % 64));
    for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
      PASSBAND_ASSIGN_OR_RETURN(auto slot, store.BeginAppend(tenant, id, layer, at, count));
      const std::vector<std::byte> rows(slot.bytes(), std::byte{7});
      slot.Scatter(rows.data());
      PASSBAND_RETURN_IF_ERROR(slot.Commit());
    }
    at += count;
  }
  return OkStatus();
}

TenantUse UseOf(Store& store, const std::string& tenant) {
  for (const TenantUse& use : store.Tenants(1000)) {
    if (use.tenant == tenant) return use;
  }
  return {.tenant = tenant};
}

std::vector<uint32_t> Tokens(size_t count, uint32_t start = 0) {
  std::vector<uint32_t> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = start + static_cast<uint32_t>(i);
  return out;
}

TEST(TenantQuotaTest, BytesAreRefusedWithQuotaAndUse) {
  const auto store = NewStore({.bytes = 3 * kColumn, .sequences = {}});
  const auto opened = Open(*store, "a");
  ASSERT_TRUE(opened.ok());
  ASSERT_TRUE(Grow(*store, "a", opened->id, 0, 192).ok());
  EXPECT_EQ(UseOf(*store, "a").bytes, 3 * kColumn);
  const Status full = Grow(*store, "a", opened->id, 192, 193);
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted) << full;
  EXPECT_NE(Message(full).find("tenant a holds 48.00 KiB of its quota of 48.00 KiB"),
            std::string::npos)
      << full;
  // Another has its own; and room that was made can be used.
  const auto other = Open(*store, "b");
  EXPECT_TRUE(Grow(*store, "b", other->id, 0, 192).ok());
  ASSERT_TRUE(store->Truncate("a", opened->id, 100).ok());
  EXPECT_EQ(UseOf(*store, "a").bytes, 2 * kColumn);
  EXPECT_TRUE(Grow(*store, "a", opened->id, 100, 192).ok());
  ASSERT_TRUE(store->Close("a", opened->id).ok());
  EXPECT_EQ(UseOf(*store, "a").bytes, 0U);
}

TEST(TenantQuotaTest, QuotaZeroHoldsNothing) {
  const auto store = NewStore(
      {}, {{"none", {.bytes = 0, .sequences = {}}}, {"nobody", {.bytes = {}, .sequences = 0}}});
  const auto opened = Open(*store, "none");
  ASSERT_TRUE(opened.ok()) << "an empty sequence holds no bytes";
  EXPECT_EQ(Grow(*store, "none", opened->id, 0, 1).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(Open(*store, "nobody").status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(store->Stats().used_bytes, 0U);
}

TEST(TenantQuotaTest, SequencesAreCountedHoweverTheyEnd) {
  const auto store = NewStore({.bytes = {}, .sequences = 3});
  std::vector<SequenceId> ids;
  for (int i = 0; i < 2; ++i) ids.push_back(Open(*store, "a")->id);
  ids.push_back(*store->Fork("a", ids[0], 0, OwnerId(2)));
  EXPECT_EQ(Open(*store, "a").status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(store->Fork("a", ids[0], 0, OwnerId(1)).status().code(),
            StatusCode::kResourceExhausted);
  EXPECT_EQ(UseOf(*store, "a").sequences, 3U);
  EXPECT_EQ(UseOf(*store, "a").rejections, 2U);
  // The owner of two dies; sealed ones outlive it and still count.
  ASSERT_TRUE(store->Seal("a", ids[0]).ok());
  EXPECT_EQ(store->CloseOwned(OwnerId(1)), 1U);
  EXPECT_EQ(UseOf(*store, "a").sequences, 2U);
  ASSERT_TRUE(store->Close("a", ids[0]).ok());
  EXPECT_EQ(store->CloseOwned(OwnerId(2)), 1U);
  EXPECT_EQ(UseOf(*store, "a").sequences, 0U);
}

TEST(TenantQuotaTest, ASharedPrefixIsPaidOnceAndACachedOneNotAtAll) {
  const auto store = NewStore({.bytes = 3 * kColumn, .sequences = {}});
  const auto tokens = Tokens(128);
  const auto first = Open(*store, "a", tokens);
  ASSERT_TRUE(Grow(*store, "a", first->id, 0, 128).ok());
  std::vector<SequenceId> sharers;
  for (int i = 0; i < 50; ++i) {
    const auto next = Open(*store, "a", tokens);
    ASSERT_TRUE(next.ok()) << next.status();
    EXPECT_EQ(next->matched_tokens, 128U);
    sharers.push_back(next->id);
  }
  EXPECT_EQ(UseOf(*store, "a").bytes, 2 * kColumn);
  // Another tenant's equal tokens are its own affair.
  EXPECT_EQ(Open(*store, "b", tokens)->matched_tokens, 0U);
  ASSERT_TRUE(store->Close("a", first->id).ok());
  for (const SequenceId id : sharers) ASSERT_TRUE(store->Close("a", id).ok());
  EXPECT_EQ(UseOf(*store, "a").bytes, 0U);
  EXPECT_EQ(store->Stats().cached_bytes, 2 * kColumn);
  // Taking it from the cache is asked for like anything else.
  const auto big = Open(*store, "a");
  ASSERT_TRUE(Grow(*store, "a", big->id, 0, 128).ok());
  EXPECT_EQ(Open(*store, "a", tokens).status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(UseOf(*store, "a").bytes, 2 * kColumn);
  EXPECT_EQ(UseOf(*store, "a").sequences, 1U);
}

TEST(TenantQuotaTest, AReservedBlockIsHeldUntilItIsGivenUp) {
  const auto store = NewStore({.bytes = kBlock, .sequences = {}});
  const auto opened = Open(*store, "a");
  {
    const auto slot = store->BeginAppend("a", opened->id, 0, 0, 10);
    ASSERT_TRUE(slot.ok());
    EXPECT_EQ(UseOf(*store, "a").bytes, kBlock);
    EXPECT_EQ(store->BeginAppend("a", opened->id, 1, 0, 10).status().code(),
              StatusCode::kResourceExhausted);
  }
  EXPECT_EQ(UseOf(*store, "a").bytes, 0U);
  EXPECT_TRUE(store->BeginAppend("a", opened->id, 1, 0, 10).ok());
}

TEST(TenantQuotaTest, OpensWithoutCloseAreBounded) {
  const auto store = NewStore({.bytes = {}, .sequences = 1000});
  for (int i = 0; i < 100'000; ++i) {
    const StatusCode code = Open(*store, "a").status().code();
    ASSERT_EQ(code, i < 1000 ? StatusCode::kOk : StatusCode::kResourceExhausted) << i;
  }
  EXPECT_EQ(UseOf(*store, "a").sequences, 1000U);
  EXPECT_EQ(UseOf(*store, "a").rejections, 99'000U);
  EXPECT_EQ(store->CloseOwned(OwnerId(1)), 1000U);
  EXPECT_EQ(UseOf(*store, "a").sequences, 0U);
}

// What each tenant's sequences hold, found by where their rows lie.
class TenantQuotaProperty : public ::testing::Test {
 protected:
  struct Held {
    std::string tenant;
    SequenceId id;
    uint64_t tokens = 0;
    bool sealed = false;
  };

  void Check() {
    std::map<std::string, std::set<const std::byte*>> blocks;
    std::map<std::string, uint64_t> sequences;
    for (const Held& held : held_) {
      ++sequences[held.tenant];
      for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
        for (uint64_t at = 0; at < held.tokens; at += 64) {
          PinnedRows row;
          ASSERT_TRUE(store_->ResolveRange(held.tenant, held.id, layer, at, 1, row).ok());
          blocks[held.tenant].insert(row.rows().front());
        }
      }
    }
    for (const std::string& tenant : tenants_) {
      const TenantUse use = UseOf(*store_, tenant);
      ASSERT_EQ(use.bytes, blocks[tenant].size() * kBlock) << tenant;
      ASSERT_EQ(use.sequences, sequences[tenant]) << tenant;
      if (quota_.at(tenant).bytes) {
        ASSERT_LE(use.bytes, *quota_.at(tenant).bytes);
      }
      if (quota_.at(tenant).sequences) {
        ASSERT_LE(use.sequences, *quota_.at(tenant).sequences);
      }
    }
  }

  void Step() {
    const std::string tenant = tenants_[random_() % tenants_.size()];
    switch (random_() % 8) {
      case 0:
      case 1: {
        const uint64_t tokens = random_() % 300;
        // Few prompts, so that prefixes meet.
        const auto opened =
            Open(*store_, tenant, Tokens(tokens, 1000 * (random_() % 3)), random_() % 3);
        if (opened.ok()) {
          held_.push_back({tenant, opened->id, opened->matched_tokens});
        } else {
          ASSERT_EQ(opened.status().code(), StatusCode::kResourceExhausted);
        }
        return;
      }
      default:
        break;
    }
    if (held_.empty()) return;
    const size_t chosen = random_() % held_.size();
    Held& held = held_[chosen];
    switch (random_() % 8) {
      case 0:
        ASSERT_TRUE(store_->Close(held.tenant, held.id).ok());
        held_.erase(held_.begin() + static_cast<ptrdiff_t>(chosen));
        return;
      case 1: {
        if (held.sealed) return;
        const uint64_t tokens = held.tokens == 0 ? 0 : random_() % held.tokens;
        ASSERT_TRUE(store_->Truncate(held.tenant, held.id, tokens).ok());
        held.tokens = tokens;
        return;
      }
      case 2: {
        const uint64_t tokens = held.tokens == 0 ? 0 : random_() % held.tokens;
        const auto fork = store_->Fork(held.tenant, held.id, tokens, OwnerId(random_() % 3));
        if (fork.ok()) held_.push_back({held.tenant, *fork, tokens});
        return;
      }
      case 3:
        ASSERT_TRUE(store_->Seal(held.tenant, held.id).ok());
        held.sealed = true;
        return;
      case 4: {
        // An append that is given up.
        (void)store_->BeginAppend(held.tenant, held.id, 0, held.tokens, 1);
        return;
      }
      case 5:
        if (random_() % 8 == 0) CloseOwned(OwnerId(random_() % 3));
        return;
      default: {
        if (held.sealed) return;
        const uint64_t tokens = held.tokens + 1 + random_() % 100;
        const Status grown = Grow(*store_, held.tenant, held.id, held.tokens, tokens);
        if (!grown.ok()) {
          ASSERT_EQ(grown.code(), StatusCode::kResourceExhausted) << grown;
        }
        const auto stat = store_->Stat(held.tenant, held.id);
        ASSERT_TRUE(stat.ok());
        held.tokens = stat->committed_tokens;
        // One layer may be ahead of the other.
        ASSERT_TRUE(store_->Truncate(held.tenant, held.id, held.tokens).ok());
      }
    }
  }

  // A worker's death.
  void CloseOwned(OwnerId owner) {
    store_->CloseOwned(owner);
    std::erase_if(held_, [this](const Held& held) {
      return store_->Stat(held.tenant, held.id).status().code() == StatusCode::kNotFound;
    });
  }

  const std::vector<std::string> tenants_ = {"free", "bytes", "count"};
  const TenantTable::Quotas quota_ = {{"free", {}},
                                      {"bytes", {.bytes = 12 * kColumn, .sequences = {}}},
                                      {"count", {.bytes = {}, .sequences = 4}}};
  const std::unique_ptr<Store> store_ = NewStore({}, quota_);
  std::vector<Held> held_;
  std::mt19937_64 random_;
};

TEST_F(TenantQuotaProperty, TheBillIsWhatTheSequencesHold) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  random_.seed(seed);
  for (int step = 0; step < 20'000; ++step) {
    ASSERT_NO_FATAL_FAILURE(Step()) << step;
    if (step % 10 == 0) {
      ASSERT_NO_FATAL_FAILURE(Check()) << step;
    }
  }
  for (uint64_t owner = 0; owner < 3; ++owner) CloseOwned(OwnerId(owner));
  for (const Held& held : held_) ASSERT_TRUE(store_->Close(held.tenant, held.id).ok());
  held_.clear();
  Check();
  EXPECT_GT(UseOf(*store_, "bytes").rejections, 0U);
  EXPECT_GT(UseOf(*store_, "count").rejections, 0U);
}

TEST(TenantQuotaStress, ThreadsNeverExceedAQuotaAndLeaveNothing) {
  const uint64_t limit = 20 * kColumn;
  const auto store = NewStore({.bytes = limit, .sequences = 20});
  std::vector<std::jthread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&store, t, limit] {
      std::mt19937_64 random(t);
      for (int i = 0; i < 300; ++i) {
        const auto opened = Open(*store, "a", Tokens(128 + random() % 128), t + 1);
        if (!opened.ok()) continue;
        (void)Grow(*store, "a", opened->id, opened->matched_tokens, 256 + random() % 100);
        const auto fork = store->Fork("a", opened->id, 0, OwnerId(t + 1));
        EXPECT_LE(UseOf(*store, "a").bytes, limit);
        EXPECT_LE(UseOf(*store, "a").sequences, 20U);
        if (random() % 2 == 0) store->Close("a", opened->id).IgnoreError();
        if (random() % 4 == 0) store->CloseOwned(OwnerId(t + 1));
      }
      store->CloseOwned(OwnerId(t + 1));
    });
  }
  threads.clear();
  const TenantUse use = UseOf(*store, "a");
  EXPECT_EQ(use.bytes, 0U);
  EXPECT_EQ(use.sequences, 0U);
}

}  // namespace
}  // namespace passband
