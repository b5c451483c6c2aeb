// Goal: what tier.h promises holds for a tier: the bytes that were put or a miss,
// never other bytes. Add a tier by adding its factory to the list at the end.
#include "kvstore/tier.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <random>

#include "kvstore/spill_database.h"
#include "tests/kvstore/memory_tier.h"
#include "tests/support/temp_folder.h"

namespace passband {
namespace {

using Bytes = std::vector<std::byte>;

constexpr uint32_t kPlanes = 4;

struct TierCase {
  const char* name;
  std::function<std::unique_ptr<Tier>()> make;  // holds 16 KiB at least
};

class TierContract : public testing::TestWithParam<TierCase> {
 protected:
  const std::unique_ptr<Tier> tier_ = GetParam().make();
};

TEST_P(TierContract, MissIsAnAnswerAndTouchesNothing) {
  Bytes bytes(256, std::byte{7});
  const auto got = tier_->Get({1, 1}, kPlanes, 0xf, bytes);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_FALSE(*got);
  EXPECT_EQ(bytes, Bytes(256, std::byte{7}));
  tier_->Drop({1, 1});
}

TEST_P(TierContract, AnotherShapeIsRefused) {
  const auto address = tier_->Put(Bytes(256, std::byte{1}), kPlanes);
  ASSERT_TRUE(address.ok()) << address.status();
  Bytes small(128);
  EXPECT_EQ(tier_->Get(*address, kPlanes, 0xf, small).status().code(),
            StatusCode::kInvalidArgument);
  Bytes same(256);
  EXPECT_EQ(tier_->Get(*address, 2, 0x3, same).status().code(), StatusCode::kInvalidArgument);
}

TEST_P(TierContract, OnlyTheWantedPlanesAreWritten) {
  Bytes put(256);
  for (size_t i = 0; i < put.size(); ++i) put[i] = static_cast<std::byte>(i);
  const auto address = tier_->Put(put, kPlanes);
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_TRUE(tier_->MayHold(*address));
  Bytes got(256, std::byte{0xee});
  ASSERT_TRUE(*tier_->Get(*address, kPlanes, 0b1010, got));
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i], i / 64 % 2 == 1 ? put[i] : std::byte{0xee}) << i;
  }
}

TEST_P(TierContract, RandomOperationsGiveTheBytesPutOrAMiss) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  std::map<BlockAddress, Bytes> put;  // not dropped
  uint64_t hits = 0;
  for (int i = 0; i < 5000; ++i) {
    auto some = put.begin();
    if (!put.empty()) std::advance(some, static_cast<ptrdiff_t>(random() % put.size()));
    switch (random() % 4) {
      case 0: {
        Bytes bytes(64 * (1 + random() % 4));
        for (std::byte& b : bytes) b = static_cast<std::byte>(random());
        auto address = tier_->Put(bytes, kPlanes);
        if (!address.ok()) {
          ASSERT_EQ(address.status().code(), StatusCode::kResourceExhausted) << address.status();
          ASSERT_TRUE(tier_->DropOldest().ok());
          break;
        }
        ASSERT_TRUE(put.emplace(*address, bytes).second) << "an address was given twice";
        break;
      }
      case 1:
      case 2: {
        if (put.empty()) break;
        Bytes bytes(some->second.size());
        const auto got = tier_->Get(some->first, kPlanes, 0xf, bytes);
        ASSERT_TRUE(got.ok()) << got.status();
        if (!*got) break;
        ++hits;
        ASSERT_EQ(bytes, some->second);
        break;
      }
      default:
        if (put.empty()) break;
        tier_->Drop(some->first);
        put.erase(some);
    }
    ASSERT_LE(tier_->Stats().used_bytes, tier_->Stats().capacity_bytes);
  }
  EXPECT_GT(hits, 100u);
}

// A spill database in a folder of its own, seen as the tier that it holds.
class RocksDbInFolder final : public Tier {
 public:
  RocksDbInFolder() {
    auto opened = SpillDatabase::Open({.directory = folder_.path(),
                                       .capacity_bytes = 256 << 10,
                                       .generation_bytes = 32 << 10,
                                       .memtable_bytes = 1 << 20});
    if (!opened.ok()) throw std::runtime_error(opened.status().ToString());
    database_ = *std::move(opened);
  }

  StatusOr<BlockAddress> Put(std::span<const std::byte> block, uint32_t planes) override {
    return database_->tier().Put(block, planes);
  }
  Status Flush() override { return database_->tier().Flush(); }
  StatusOr<bool> Get(const BlockAddress& address, uint32_t planes, PlaneSet wanted,
                     std::span<std::byte> block) override {
    return database_->tier().Get(address, planes, wanted, block);
  }
  void Drop(const BlockAddress& address) override { database_->tier().Drop(address); }
  StatusOr<uint64_t> DropOldest() override { return database_->tier().DropOldest(); }
  void Claim(const BlockAddress& address) override { database_->tier().Claim(address); }
  bool MayHold(const BlockAddress& address) const override {
    return database_->tier().MayHold(address);
  }
  Status DropUnclaimed() override { return database_->tier().DropUnclaimed(); }
  TierStats Stats() const override { return database_->tier().Stats(); }

 private:
  test::TempFolder folder_;
  std::unique_ptr<SpillDatabase> database_;
};

INSTANTIATE_TEST_SUITE_P(
    Tiers, TierContract,
    testing::Values(TierCase{"Memory", [] { return std::make_unique<MemoryTier>(16 << 10); }},
                    TierCase{"RocksDb", [] { return std::make_unique<RocksDbInFolder>(); }}),
    [](const auto& tier) { return std::string(tier.param.name); });

TEST(MemoryTierTest, DamageIsDataLoss) {
  MemoryTier tier(1024);
  Bytes bytes(64, std::byte{3});
  const auto address = tier.Put(bytes, 1);
  ASSERT_TRUE(address.ok());
  tier.Damage(*address);
  EXPECT_EQ(tier.Get(*address, 1, 1, bytes).status().code(), StatusCode::kDataLoss);
}

TEST(MemoryTierTest, ACrashKeepsWhatWasFlushed) {
  MemoryTier tier(1024);
  Bytes bytes(64, std::byte{3});
  const auto kept = tier.Put(bytes, 1);
  ASSERT_TRUE(tier.Flush().ok());
  const auto lost = tier.Put(bytes, 1);
  tier.Crash();
  EXPECT_TRUE(*tier.Get(*kept, 1, 1, bytes));
  EXPECT_FALSE(*tier.Get(*lost, 1, 1, bytes));
}

}  // namespace
}  // namespace passband
