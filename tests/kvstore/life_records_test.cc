// Goal: TTLs and pins of sealed sequences survive a restart: a crash in the sequence's favour, a
// stop with what was left; the time between counts for nothing; and no record outlives its sequence.
#include "kvstore/life_records.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/units.h"
#include "kvstore/store.h"
#include "tests/kvstore/manual_clock.h"
#include "tests/kvstore/memory_catalog.h"
#include "tests/kvstore/memory_tier.h"

namespace passband {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr KvShape kShape{.layers = 2, .kv_heads = 4, .row_bytes = 16};
const uint64_t kBlockBytes = kShape.block_bytes();

class LifeRecordsTest : public testing::Test {
 protected:
  void SetUp() override { Start(); }

  void Start(uint64_t pin_limit = kMiB) {
    // Steady clocks of two runs have nothing to do with each other.
    clock_ = std::make_unique<ManualClock>(seconds(100 + 7 * ++runs_));
    Store::Options options{
        .arena = {.bytes = 64 * kBlockBytes, .huge_pages = false, .slab_bytes = kBlockBytes},
        .clock = clock_.get()};
    options.sequence_ttl = seconds(60);
    options.reap_interval = {};
    options.pin_limit_bytes = pin_limit;
    options.tier = &tier_;
    options.catalog = &catalog_;
    auto store = Store::Create(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    ASSERT_TRUE(store_->RegisterModel({.fingerprint = "m", .name = "Model", .shape = kShape}).ok());
  }
  void CrashAndStart(uint64_t pin_limit = kMiB) {
    catalog_.Freeze(true);
    store_.reset();
    catalog_.Freeze(false);
    tier_.Crash();
    Start(pin_limit);
  }
  void StopAndStart() {
    ASSERT_EQ(store_->SealAll([](uint64_t, uint64_t) {}), 0U);
    store_.reset();
    Start();
  }
  SequenceId Sealed(Duration ttl) {
    const auto opened =
        store_->Open({.tenant = "ann", .model = "m", .owner = OwnerId(1), .ttl = ttl});
    EXPECT_TRUE(opened.ok()) << opened.status();
    for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
      auto slot = store_->BeginAppend("ann", opened->id, layer, 0, kBlockTokens);
      EXPECT_TRUE(slot.ok()) << slot.status();
      const std::vector<std::byte> rows(slot->bytes(), std::byte{7});
      slot->Scatter(rows.data());
      EXPECT_TRUE(slot->Commit().ok());
    }
    EXPECT_TRUE(store_->Seal("ann", opened->id).ok());
    return opened->id;
  }
  SequenceInfo Stat(SequenceId id) {
    const auto info = store_->Stat("ann", id);
    EXPECT_TRUE(info.ok()) << info.status();
    return info.ok() ? *info : SequenceInfo();
  }
  // Pins come back behind the start.
  bool AwaitPins(uint64_t pins) {
    const Time until = std::chrono::steady_clock::now() + seconds(20);
    while (store_->Stats().pins != pins && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(milliseconds(2));
    }
    return store_->Stats().pins == pins;
  }

  int runs_ = 0;
  std::unique_ptr<ManualClock> clock_;
  MemoryTier tier_{64 * kMiB, 64 * kKiB};
  MemoryCatalog catalog_;
  std::unique_ptr<Store> store_;
};

TEST_F(LifeRecordsTest, TheyAreReadAsTheyWereWritten) {
  const LifeRecord record{.own_ttl = kMaxTtl, .idle = milliseconds(1), .pin_left = minutes(3)};
  const std::string text = Encode(record);
  const std::string key(8, 'k');
  const auto parsed = ParseLife(key, text);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed, record);
  for (size_t size = 0; size < text.size(); ++size) {
    EXPECT_EQ(ParseLife(key, text.substr(0, size)).status().code(), StatusCode::kDataLoss);
  }
  EXPECT_EQ(ParseLife(key, text + "x").status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(ParseLife("k", text).status().code(), StatusCode::kDataLoss);
  std::string later = text;
  later[0] = 2;
  EXPECT_EQ(ParseLife(key, later).status().code(), StatusCode::kUnimplemented);
  std::string endless = text;
  endless[8] = 127;
  EXPECT_EQ(ParseLife(key, endless).status().code(), StatusCode::kDataLoss);
}

TEST_F(LifeRecordsTest, ATtlOfItsOwnSurvivesACrashAndBeginsAnew) {
  const SequenceId own = Sealed(seconds(600));
  const SequenceId usual = Sealed({});
  EXPECT_EQ(catalog_.records(RecordKind::kLife), 1U) << "the usual one needs none";
  clock_->Advance(seconds(50));
  CrashAndStart();
  EXPECT_EQ(Stat(own).ttl_seconds, 600);
  EXPECT_EQ(Stat(own).idle_seconds, 0);
  EXPECT_EQ(Stat(usual).ttl_seconds, 60);
  clock_->Advance(seconds(60));
  EXPECT_EQ(store_->Reap(), 1U);
  EXPECT_EQ(Stat(own).idle_seconds, 60);
  clock_->Advance(seconds(540));
  EXPECT_EQ(store_->Reap(), 1U);
  EXPECT_EQ(catalog_.records(RecordKind::kLife), 0U);
}

TEST_F(LifeRecordsTest, AStopKeepsWhatIsLeftOfATtlAndACrashAfterItDoesNot) {
  const SequenceId own = Sealed(seconds(600));
  const SequenceId usual = Sealed({});
  clock_->Advance(seconds(45));
  StopAndStart();
  // SealAll is no use of what was sealed before.
  EXPECT_EQ(Stat(own).idle_seconds, 45);
  EXPECT_EQ(Stat(usual).idle_seconds, 45);
  clock_->Advance(seconds(14));
  EXPECT_EQ(store_->Reap(), 0U);
  CrashAndStart();
  EXPECT_EQ(Stat(own).idle_seconds, 0);
  EXPECT_EQ(Stat(own).ttl_seconds, 600);
  EXPECT_EQ(Stat(usual).idle_seconds, 0);
  clock_->Advance(seconds(45));
  StopAndStart();
  clock_->Advance(seconds(15));
  EXPECT_EQ(store_->Reap(), 1U);
}

TEST_F(LifeRecordsTest, APinSurvivesWithItsRowsInRam) {
  const SequenceId id = Sealed({});
  ASSERT_TRUE(store_->Pin("ann", id, minutes(60)).ok());
  clock_->Advance(minutes(20));
  CrashAndStart();
  EXPECT_EQ(Stat(id).pin_seconds, 3600) << "as when it was recorded";
  ASSERT_TRUE(AwaitPins(1));
  EXPECT_EQ(Stat(id).spilled_bytes, 0U);
  EXPECT_EQ(store_->Stats().pinned_bytes, kShape.layers * kBlockBytes);
  clock_->Advance(minutes(20));
  EXPECT_EQ(store_->Reap(), 0U);
  StopAndStart();
  EXPECT_EQ(Stat(id).pin_seconds, 2400) << "what was left";
  ASSERT_TRUE(AwaitPins(1));
  clock_->Advance(minutes(40));
  EXPECT_EQ(store_->Reap(), 0U);
  EXPECT_EQ(store_->Stats().pins, 0U);
  CrashAndStart();
  EXPECT_EQ(Stat(id).pin_seconds, 0) << "what ended does not come back";
  clock_->Advance(seconds(60));
  EXPECT_EQ(store_->Reap(), 1U);
}

TEST_F(LifeRecordsTest, AnUnpinnedOneAndOneBeyondALoweredLimitStayUnpinned) {
  const SequenceId unpinned = Sealed({});
  const SequenceId pinned = Sealed({});
  ASSERT_TRUE(store_->Pin("ann", unpinned, minutes(60)).ok());
  ASSERT_TRUE(store_->Pin("ann", pinned, minutes(60)).ok());
  ASSERT_TRUE(store_->Unpin("ann", unpinned).ok());
  CrashAndStart(/*pin_limit=*/0);
  EXPECT_EQ(store_->Stats().pins, 0U);
  EXPECT_EQ(Stat(unpinned).pin_seconds, 0);
  EXPECT_EQ(Stat(pinned).pin_seconds, 0);
  EXPECT_EQ(catalog_.records(RecordKind::kLife), 0U);
  clock_->Advance(seconds(60));
  EXPECT_EQ(store_->Reap(), 2U);
}

TEST_F(LifeRecordsTest, RecordsGoWithTheirSequences) {
  const SequenceId closed = Sealed(seconds(600));
  const SequenceId pinned = Sealed(seconds(600));
  ASSERT_TRUE(store_->Pin("ann", pinned, minutes(60)).ok());
  EXPECT_EQ(catalog_.records(RecordKind::kLife), 2U);
  ASSERT_TRUE(store_->Close("ann", closed).ok());
  store_->Reap();
  EXPECT_EQ(catalog_.records(RecordKind::kLife), 1U);
  // Closed, and killed before the record went: the next start finds it without a sequence.
  ASSERT_TRUE(store_->Close("ann", pinned).ok());
  for (int i = 0; i < 1000 && store_->Stats().seals_pending > 0; ++i) {
    std::this_thread::sleep_for(milliseconds(2));
  }
  CrashAndStart();
  EXPECT_EQ(catalog_.records(RecordKind::kLife), 0U);
}

}  // namespace
}  // namespace passband
