// Goal: a pinned sequence is neither closed nor moved out of RAM until its pin ends, for whatever
// reason it ends; no tenant pins more than its limit; and no pin outlives its sequence.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <thread>

#include "base/random.h"
#include "base/units.h"
#include "kvstore/store.h"
#include "tests/kvstore/manual_clock.h"
#include "tests/kvstore/memory_tier.h"

namespace passband {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr KvShape kShape{.layers = 2, .kv_heads = 4, .row_bytes = 16};
const uint64_t kBlockBytes = kShape.block_bytes();
const uint64_t kColumn = kShape.layers * kBlockBytes;

class PinTest : public testing::Test {
 protected:
  void SetUp() override { Start(64, 4 * kColumn); }

  void Start(uint64_t blocks, uint64_t limit, bool tier = false) {
    Store::Options options{
        .arena = {.bytes = blocks * kBlockBytes, .huge_pages = false, .slab_bytes = kBlockBytes},
        .clock = &clock_};
    options.sequence_ttl = seconds(60);
    options.reap_interval = {};
    options.pin_limit_bytes = limit;
    options.low_watermark = 0.4;
    options.high_watermark = 0.8;
    if (tier) options.tier = &tier_;
    store_.reset();
    auto store = Store::Create(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    ASSERT_TRUE(store_->RegisterModel({.fingerprint = "m", .name = "Model", .shape = kShape}).ok());
  }
  // Sealed, with rows of this mark.
  SequenceId Sealed(const std::string& tenant, uint64_t columns, int mark,
                    std::vector<uint32_t> ids = {}) {
    const auto opened = store_->Open(
        {.tenant = tenant, .model = "m", .owner = OwnerId(1), .token_ids = std::move(ids)});
    EXPECT_TRUE(opened.ok()) << opened.status();
    for (uint64_t at = opened->matched_tokens; at < columns * kBlockTokens; at += kBlockTokens) {
      for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
        StatusOr<Store::AppendSlot> slot = TryAppend(tenant, opened->id, layer, at);
        EXPECT_TRUE(slot.ok()) << slot.status();
        const std::vector<std::byte> rows(slot->bytes(), static_cast<std::byte>(mark));
        slot->Scatter(rows.data());
        EXPECT_TRUE(slot->Commit().ok());
      }
    }
    EXPECT_TRUE(store_->Seal(tenant, opened->id).ok());
    return opened->id;
  }
  // Appends that outrun the spilling are told to come again.
  StatusOr<Store::AppendSlot> TryAppend(const std::string& tenant, SequenceId id, uint32_t layer,
                                        uint64_t at) {
    const Time until = std::chrono::steady_clock::now() + seconds(20);
    while (true) {
      auto slot = store_->BeginAppend(tenant, id, layer, at, kBlockTokens);
      if (slot.ok() || !RetryAfter(slot.status()).has_value()) return slot;
      if (std::chrono::steady_clock::now() > until) return slot;
      std::this_thread::sleep_for(milliseconds(2));
    }
  }
  bool Exists(const std::string& tenant, SequenceId id) { return store_->Stat(tenant, id).ok(); }
  // Whether every row is in RAM now.
  bool Resident(const std::string& tenant, SequenceId id, uint64_t columns, int mark) {
    for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
      PinnedRows rows;
      MissingBlocks missing;
      const Status status =
          store_->ResolveRange(tenant, id, layer, 0, columns * kBlockTokens, rows, missing);
      EXPECT_TRUE(status.ok()) << status;
      if (!missing.empty()) return false;
      for (const std::byte* row : rows.rows()) {
        EXPECT_EQ(*row, static_cast<std::byte>(mark));
      }
    }
    return true;
  }
  void ExpectPinned(uint64_t pins, uint64_t bytes) {
    EXPECT_EQ(store_->Stats().pins, pins);
    EXPECT_EQ(store_->Stats().pinned_bytes, bytes);
  }

  ManualClock clock_;
  MemoryTier tier_{64 * kMiB, 64 * kKiB};
  std::unique_ptr<Store> store_;
};

TEST_F(PinTest, APinnedSequenceIsNotReapedUntilItsPinEnds) {
  const SequenceId id = Sealed("ann", 2, 1);
  ASSERT_TRUE(store_->Pin("ann", id, hours(2)).ok());
  ExpectPinned(1, 2 * kColumn);
  EXPECT_EQ(store_->Stat("ann", id)->pin_seconds, 7200);
  clock_.Advance(hours(1));
  EXPECT_EQ(store_->Reap(), 0U);
  EXPECT_EQ(store_->Stat("ann", id)->pin_seconds, 3600);
  clock_.Advance(hours(1));
  EXPECT_EQ(store_->Reap(), 0U) << "its TTL begins when the pin ends";
  ExpectPinned(0, 0);
  EXPECT_EQ(store_->Stat("ann", id)->pin_seconds, 0);
  clock_.Advance(seconds(60));
  EXPECT_EQ(store_->Reap(), 1U);
  EXPECT_FALSE(Exists("ann", id));
}

TEST_F(PinTest, APinIsRenewedAndEnded) {
  const SequenceId id = Sealed("ann", 1, 1);
  ASSERT_TRUE(store_->Pin("ann", id, Duration{}).ok());
  EXPECT_EQ(store_->Stat("ann", id)->pin_seconds, Seconds(kUsualPin));
  ASSERT_TRUE(store_->Pin("ann", id, seconds(5)).ok());
  EXPECT_EQ(store_->Stat("ann", id)->pin_seconds, 5);
  ExpectPinned(1, kColumn);
  ASSERT_TRUE(store_->Unpin("ann", id).ok());
  ASSERT_TRUE(store_->Unpin("ann", id).ok());
  ExpectPinned(0, 0);
  EXPECT_TRUE(Exists("ann", id));
}

TEST_F(PinTest, WhatCannotBePinned) {
  const SequenceId id = Sealed("ann", 1, 1);
  const auto open = store_->Open({.tenant = "ann", .model = "m", .owner = OwnerId(1)});
  EXPECT_EQ(store_->Pin("ann", open->id, seconds(1)).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(store_->Pin("bob", id, seconds(1)).code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->Unpin("bob", id).code(), StatusCode::kNotFound);
  EXPECT_EQ(store_->Pin("ann", id, kMaxPin + seconds(1)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->Pin("ann", id, -seconds(1)).code(), StatusCode::kInvalidArgument);
  ExpectPinned(0, 0);
  Start(64, 0);
  const SequenceId again = Sealed("ann", 1, 1);
  const Status off = store_->Pin("ann", again, seconds(1));
  EXPECT_EQ(off.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(Message(off).find("--pin-limit"), std::string::npos) << off;
}

TEST_F(PinTest, EachTenantHasItsLimitAndAllTogetherHalfTheRam) {
  std::vector<uint32_t> ids(3 * kBlockTokens);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<uint32_t>(i);
  const SequenceId a = Sealed("ann", 3, 1, ids);
  const SequenceId shared = Sealed("ann", 3, 1, ids);
  const SequenceId b = Sealed("ann", 2, 2);
  ASSERT_TRUE(store_->Pin("ann", a, hours(1)).ok());
  ASSERT_TRUE(store_->Pin("ann", shared, hours(1)).ok()) << "the same blocks";
  ExpectPinned(2, 3 * kColumn);
  const Status full = store_->Pin("ann", b, hours(1));
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(Message(full).find("tenant ann"), std::string::npos) << full;
  // The half of 64 blocks is 16 columns: four tenants' limits.
  for (const char* tenant : {"bob", "cid", "dan"}) {
    ASSERT_TRUE(store_->Pin(tenant, Sealed(tenant, 4, 3), hours(1)).ok()) << tenant;
  }
  const SequenceId e = Sealed("eve", 2, 4);
  EXPECT_EQ(store_->Pin("eve", e, hours(1)).code(), StatusCode::kResourceExhausted);
  ExpectPinned(5, 15 * kColumn);
  // One of the two that share goes: the other still pins the blocks.
  ASSERT_TRUE(store_->Unpin("ann", a).ok());
  ExpectPinned(4, 15 * kColumn);
  ASSERT_TRUE(store_->Close("ann", shared).ok());
  ExpectPinned(3, 12 * kColumn);
  EXPECT_TRUE(store_->Pin("eve", e, hours(1)).ok());
  EXPECT_TRUE(store_->Pin("ann", b, hours(1)).ok());
}

TEST_F(PinTest, WhoPinnedMayGo) {
  const SequenceId id = Sealed("ann", 1, 1);
  ASSERT_TRUE(store_->Pin("ann", id, seconds(10)).ok());
  store_->CloseOwned(OwnerId(1));
  ExpectPinned(1, kColumn);
  clock_.Advance(seconds(10));
  store_->Reap();
  ExpectPinned(0, 0);
}

// Four times the RAM goes through the store; what is pinned stays where it is.
TEST_F(PinTest, PinnedRowsStayInRam) {
  Start(64, 8 * kColumn, /*tier=*/true);
  const SequenceId pinned = Sealed("ann", 4, 1);
  ASSERT_TRUE(store_->Pin("ann", pinned, hours(1)).ok());
  std::vector<SequenceId> others;
  for (int i = 0; i < 32; ++i) others.push_back(Sealed("ann", 4, 2 + i));
  EXPECT_GT(store_->Stats().spilled_bytes, 0U);
  EXPECT_TRUE(Resident("ann", pinned, 4, 1));
  EXPECT_EQ(store_->Stat("ann", pinned)->spilled_bytes, 0U);

  // One that was moved out comes back when it is pinned.
  ASSERT_GT(store_->Stat("ann", others[0])->spilled_bytes, 0U);
  ASSERT_TRUE(store_->Pin("ann", others[0], hours(1)).ok());
  ExpectPinned(2, 8 * kColumn);
  EXPECT_TRUE(Resident("ann", others[0], 4, 2));
  for (int i = 0; i < 16; ++i) Sealed("bob", 4, 50 + i);
  EXPECT_TRUE(Resident("ann", others[0], 4, 2));
  EXPECT_TRUE(Resident("ann", pinned, 4, 1));

  // Unpinned, they leave again.
  ASSERT_TRUE(store_->Unpin("ann", pinned).ok());
  for (int i = 0; i < 32; ++i) Sealed("ann", 4, 70 + i);
  EXPECT_GT(store_->Stat("ann", pinned)->spilled_bytes, 0U);
}

TEST_F(PinTest, RandomPinsLeaveNothing) {
  const uint64_t seed = RandomU64();
  RecordProperty("seed", std::to_string(seed));
  std::mt19937_64 random(seed);
  Start(256, 40 * kColumn, /*tier=*/true);
  std::map<SequenceId, std::string> known;
  for (int step = 0; step < 1500; ++step) {
    const uint64_t what = random() % 8;
    if (known.size() < 8 || (what == 0 && known.size() < 100)) {
      const std::string tenant = random() % 2 == 0 ? "ann" : "bob";
      std::vector<uint32_t> ids(random() % 2 == 0 ? 192 : 0);
      for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<uint32_t>(i);
      known[Sealed(tenant, 3, 7, std::move(ids))] = tenant;
      continue;
    }
    const auto it = std::next(known.begin(), static_cast<ptrdiff_t>(random() % known.size()));
    if (what < 4) {
      const Status status = store_->Pin(it->second, it->first, seconds(1 + random() % 100));
      ASSERT_TRUE(status.ok() || status.code() == StatusCode::kResourceExhausted) << status;
    } else if (what == 4) {
      ASSERT_TRUE(store_->Unpin(it->second, it->first).ok());
    } else if (what == 5) {
      ASSERT_TRUE(store_->Close(it->second, it->first).ok());
      known.erase(it);
    } else if (what == 6) {
      clock_.Advance(milliseconds(random() % 5000));
      store_->Reap();
      std::erase_if(known, [&](const auto& each) { return !Exists(each.second, each.first); });
    } else {
      ASSERT_TRUE(Resident(it->second, it->first, 3, 7) ||
                  store_->Stat(it->second, it->first)->pin_seconds == 0)
          << "seed " << seed;
    }
    ASSERT_LE(store_->Stats().pinned_bytes, 80 * kColumn);
    uint64_t pins = 0;
    for (const SequenceInfo& info : store_->List("", SequenceId(), 1000)) {
      pins += info.pin_seconds > 0 ? 1 : 0;
    }
    ASSERT_LE(pins, store_->Stats().pins) << "those that are over are still counted";
  }
  // The longest pin, then the TTL.
  clock_.Advance(seconds(101));
  store_->Reap();
  ExpectPinned(0, 0);
  clock_.Advance(seconds(61));
  store_->Reap();
  EXPECT_EQ(store_->Stats().sequences_sealed, 0U);
  // One that is being written to the tier stays until that is done.
  const Time until = std::chrono::steady_clock::now() + seconds(20);
  while (store_->Stats().used_bytes > 0 && std::chrono::steady_clock::now() < until) {
    store_->Evict(~uint64_t{0});
    std::this_thread::sleep_for(milliseconds(1));
  }
  EXPECT_EQ(store_->Stats().used_bytes, 0U);
}

}  // namespace
}  // namespace passband
