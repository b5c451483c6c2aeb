// Goal: attention mass and recall are what their definitions say.
#include "services/worker/eval/probe.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "services/worker/eval/selectors.h"
#include "tests/worker/key_world.h"

namespace passband {
namespace {

using testing::KeyWorld;

constexpr uint64_t kContext = 200;
constexpr kernels::SelectOptions kOptions{30, 4, 8};

std::vector<uint32_t> RandomSet(KeyWorld& world, size_t size) {
  std::set<uint32_t> set;
  while (set.size() < size) set.insert(world.Below(kContext));
  return {set.begin(), set.end()};
}

TEST(Probe, MassIsTheMeanWeightOnTheSets) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(seed);
  KeyWorld world(seed, kContext - 5, 5);
  const auto queries = world.Queries();
  for (const uint32_t sets_count : {1U, world.model.group()}) {
    std::vector<std::vector<uint32_t>> sets;
    for (uint32_t i = 0; i < sets_count; ++i) sets.push_back(RandomSet(world, 30));
    Probe probe(kOptions);
    probe.Look(*world.keys, 1, kContext, queries.data(), sets);
    double mass = 0;
    for (uint32_t head = 0; head < world.model.group(); ++head) {
      const auto weights = world.Weights(1, kContext, queries, head);
      for (const uint32_t token : sets[sets_count == 1 ? 0 : head]) mass += weights[token];
    }
    EXPECT_NEAR(probe.sums().mean_mass(), mass / world.model.group(), 1e-5);
  }
}

TEST(Probe, EverythingHasAllTheMass) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(seed);
  KeyWorld world(seed, kContext - 5, 5);
  std::vector<std::vector<uint32_t>> sets(1, std::vector<uint32_t>(kContext));
  std::iota(sets[0].begin(), sets[0].end(), 0U);
  Probe probe(kOptions);
  probe.Look(*world.keys, 0, kContext, world.Queries().data(), sets);
  EXPECT_NEAR(probe.sums().mean_mass(), 1, 1e-5);
  EXPECT_EQ(probe.sums().mean_recall(), 1);
}

TEST(Probe, TheOracleRecallsEverythingAndTheForcedTokensNothing) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(seed);
  KeyWorld world(seed, kContext - 5, 5);
  const auto queries = world.Queries();
  OracleSelector oracle(kOptions);
  oracle.BeginLayer(*world.keys);
  std::vector<std::vector<uint32_t>> sets;
  oracle.Choose(0, kContext, queries.data(), sets);
  Probe probe(kOptions);
  probe.Look(*world.keys, 0, kContext, queries.data(), sets);
  EXPECT_EQ(probe.sums().mean_recall(), 1);

  std::vector<uint32_t> free;
  std::vector<std::vector<uint32_t>> forced(1);
  for (const uint32_t token : sets[0]) {
    (token < kOptions.sinks || token + kOptions.recent >= kContext ? forced[0] : free)
        .push_back(token);
  }
  Probe none(kOptions);
  none.Look(*world.keys, 0, kContext, queries.data(), forced);
  EXPECT_EQ(none.sums().mean_recall(), 0);

  // Half of the oracle's own choice.
  auto half = forced;
  half[0].insert(half[0].end(), free.begin(), free.begin() + 9);
  std::sort(half[0].begin(), half[0].end());
  Probe some(kOptions);
  some.Look(*world.keys, 0, kContext, queries.data(), half);
  EXPECT_DOUBLE_EQ(some.sums().mean_recall(), 9.0 / 18.0);
}

TEST(ProbeSums, AddUpToMeansOverEverything) {
  ProbeSums sums{.mass = 1.5, .masses = 2, .recall = 0.5, .recalls = 1};
  sums.Add({.mass = 0.5, .masses = 2, .recall = 0.0, .recalls = 1});
  EXPECT_DOUBLE_EQ(sums.mean_mass(), 0.5);
  EXPECT_DOUBLE_EQ(sums.mean_recall(), 0.25);
}

}  // namespace
}  // namespace passband
