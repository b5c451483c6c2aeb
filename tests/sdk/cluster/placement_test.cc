// Goal: every server gets an even share of the keys, one that comes or goes moves its share
// alone, and what shares a first block has one key, in every process.

#include "sdk/cluster/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/random.h"

namespace passband::test {
namespace {

using ::testing::ElementsAre;

constexpr size_t kKeys = 20'000;

std::vector<std::string> Names(size_t count, uint64_t salt) {
  std::vector<std::string> out;
  for (size_t i = 0; i < count; ++i) {
    out.push_back("passband-" + std::to_string(i) + "-" + std::to_string(salt) + ":50061");
  }
  return out;
}

class PlacementProperty : public ::testing::TestWithParam<size_t> {
 protected:
  size_t servers() const { return GetParam(); }

  const uint64_t seed_ = RandomU64();
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
};

TEST_P(PlacementProperty, EveryServerGetsAnEvenShare) {
  const Placement placement(Names(servers(), seed_));
  // Where keys go first, and where they go when their first server is gone.
  for (const size_t place : {size_t{0}, servers() - 1}) {
    std::vector<double> shares(servers());
    for (size_t i = 0; i < kKeys; ++i) ++shares[placement.Rank(random_())[place]];
    const double even = static_cast<double>(kKeys) / static_cast<double>(servers());
    // Six deviations of a fair draw: once in a billion runs.
    for (const double share : shares) EXPECT_NEAR(share, even, 6 * std::sqrt(even)) << place;
  }
}

TEST_P(PlacementProperty, AServerThatGoesMovesItsShareAlone) {
  const std::vector<std::string> names = Names(servers(), seed_);
  const Placement all(names);
  const size_t gone = random_() % servers();
  std::vector<std::string> rest = names;
  rest.erase(rest.begin() + static_cast<ptrdiff_t>(gone));
  const Placement left(rest);
  for (size_t i = 0; i < kKeys / 10; ++i) {
    const uint64_t key = random_();
    std::vector<std::string> before, after;
    for (const size_t at : all.Rank(key)) {
      if (at != gone) before.push_back(names[at]);
    }
    for (const size_t at : left.Rank(key)) after.push_back(rest[at]);
    // Nothing else changes: who was first stays first, and the gone one's keys go to their second.
    ASSERT_EQ(before, after) << key;
  }
}

TEST_P(PlacementProperty, TheOrderOfTheListMeansNothing) {
  std::vector<std::string> names = Names(servers(), seed_);
  const Placement one(names);
  std::vector<std::string> shuffled = names;
  std::shuffle(shuffled.begin(), shuffled.end(), random_);
  const Placement other(shuffled);
  for (size_t i = 0; i < 1000; ++i) {
    const uint64_t key = random_();
    ASSERT_EQ(names[one.Rank(key)[0]], shuffled[other.Rank(key)[0]]) << key;
  }
}

TEST_P(PlacementProperty, EveryServerIsRankedOnce) {
  const Placement placement(Names(servers(), seed_));
  std::vector<size_t> rank = placement.Rank(random_());
  std::sort(rank.begin(), rank.end());
  std::vector<size_t> every(servers());
  std::iota(every.begin(), every.end(), 0);
  EXPECT_EQ(rank, every);
}

INSTANTIATE_TEST_SUITE_P(Servers, PlacementProperty, ::testing::Values(1, 2, 3, 7, 16));

TEST(Placement, WithoutServersThereIsNoRank) { EXPECT_TRUE(Placement().Rank(1).empty()); }

TEST(PlacementKey, IsOfTenantModelAndFirstBlock) {
  std::vector<uint32_t> ids(200);
  std::iota(ids.begin(), ids.end(), 1000);
  const auto key = PlacementKey("t", "m", ids);
  ASSERT_TRUE(key.has_value());
  // What follows the first block does not count, each of its tokens does.
  EXPECT_EQ(PlacementKey("t", "m", std::span(ids).first(64)), key);
  for (const size_t at : {size_t{0}, size_t{63}}) {
    std::vector<uint32_t> other = ids;
    ++other[at];
    EXPECT_NE(PlacementKey("t", "m", other), key) << at;
  }
  EXPECT_NE(PlacementKey("u", "m", ids), key);
  EXPECT_NE(PlacementKey("t", "n", ids), key);
  EXPECT_NE(PlacementKey("tm", "", ids), PlacementKey("t", "m", ids));
}

TEST(PlacementKey, IsAbsentBelowOneBlock) {
  const std::vector<uint32_t> ids(63, 7);
  EXPECT_FALSE(PlacementKey("t", "m", ids).has_value());
  EXPECT_FALSE(PlacementKey("t", "m", {}).has_value());
}

// Workers of different versions meet: these numbers are part of the contract.
TEST(Placement, IsTheSameInEveryVersion) {
  const std::vector<uint32_t> ids(64, 42);
  const std::vector<std::string> names = {"passband-0:50061", "passband-1:50061",
                                          "passband-2:50061"};
  const auto key = PlacementKey("default", "arch:weights", ids);
  EXPECT_EQ(key, 8067593356819941986U);
  EXPECT_THAT(Placement(names).Rank(*key), ElementsAre(0, 1, 2));
}

}  // namespace
}  // namespace passband::test
