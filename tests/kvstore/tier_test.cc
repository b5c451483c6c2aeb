// Goal: what tier.h promises holds for a tier: the bytes that were put or a miss,
// never other bytes. Add a tier by adding its factory to the list at the end.
#include "kvstore/tier.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <random>

#include "tests/kvstore/memory_tier.h"

namespace passband {
namespace {

using Bytes = std::vector<std::byte>;

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
  const auto got = tier_->Get({1, 1}, bytes);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_FALSE(*got);
  EXPECT_EQ(bytes, Bytes(256, std::byte{7}));
  EXPECT_TRUE(tier_->Drop({1, 1}).ok());
}

TEST_P(TierContract, WrongSizeIsRefused) {
  ASSERT_TRUE(tier_->Put({1, 1}, Bytes(256, std::byte{1})).ok());
  Bytes small(128);
  EXPECT_EQ(tier_->Get({1, 1}, small).status().code(), StatusCode::kInvalidArgument);
}

TEST_P(TierContract, RandomOperationsGiveTheBytesPutOrAMiss) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  std::map<BlockKey, Bytes> put;
  uint64_t hits = 0;
  for (int i = 0; i < 5000; ++i) {
    const BlockKey key{random() % 2, random() % 200};
    switch (random() % 3) {
      case 0: {
        Bytes bytes(64 * (1 + key.number % 4));
        for (std::byte& b : bytes) b = static_cast<std::byte>(random());
        // A key names one content: a later Put of it says the same.
        const auto [at, fresh] = put.emplace(key, bytes);
        ASSERT_TRUE(tier_->Put(key, at->second).ok());
        break;
      }
      case 1: {
        Bytes bytes(64 * (1 + key.number % 4));
        const auto got = tier_->Get(key, bytes);
        ASSERT_TRUE(got.ok()) << got.status();
        if (!*got) break;
        ++hits;
        ASSERT_TRUE(put.contains(key));
        ASSERT_EQ(bytes, put[key]);
        break;
      }
      default:
        ASSERT_TRUE(tier_->Drop(key).ok());
        Bytes bytes(64 * (1 + key.number % 4));
        const auto got = tier_->Get(key, bytes);
        ASSERT_TRUE(got.ok() && !*got);
    }
    ASSERT_LE(tier_->Stats().used_bytes, tier_->Stats().capacity_bytes);
  }
  EXPECT_GT(hits, 100u);
}

INSTANTIATE_TEST_SUITE_P(Tiers, TierContract,
                         testing::Values(TierCase{
                             "Memory", [] { return std::make_unique<MemoryTier>(16 << 10); }}),
                         [](const auto& tier) { return std::string(tier.param.name); });

TEST(MemoryTierTest, DamageIsDataLossThenAMiss) {
  MemoryTier tier(1024);
  Bytes bytes(64, std::byte{3});
  ASSERT_TRUE(tier.Put({0, 1}, bytes).ok());
  tier.Damage({0, 1});
  EXPECT_EQ(tier.Get({0, 1}, bytes).status().code(), StatusCode::kDataLoss);
  EXPECT_FALSE(*tier.Get({0, 1}, bytes));
}

}  // namespace
}  // namespace passband
