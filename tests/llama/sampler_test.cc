// Goal: greedy takes the most likely token; otherwise tokens come with the
// probabilities that temperature, top-k and top-p leave them, from the seed.
#include "llama/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <vector>

namespace passband {
namespace {

// Probabilities .5, .25, .125, .0625, .0625 of tokens 3, 1, 0, 2, 4.
const std::vector<float> kLogits = {std::log(2.0F), std::log(4.0F), 0.0F, std::log(8.0F), 0.0F};

std::map<uint32_t, double> Shares(const Sampler::Options& options, int draws = 20000) {
  auto sampler = Sampler::Create(options);
  EXPECT_TRUE(sampler.ok()) << sampler.status();
  std::map<uint32_t, double> out;
  for (int i = 0; i < draws; ++i) out[sampler->Sample(kLogits)] += 1.0 / draws;
  return out;
}

TEST(SamplerTest, GreedyTakesTheMostLikely) {
  EXPECT_EQ(Shares({}, 10).size(), 1);
  auto sampler = Sampler::Create({});
  EXPECT_EQ(sampler->Sample(kLogits), 3);
  EXPECT_EQ(sampler->Sample(std::vector<float>{1, 5, 5}), 1);
}

TEST(SamplerTest, DrawsInProportion) {
  const auto shares = Shares({.temperature = 1.0, .seed = 4});
  EXPECT_NEAR(shares.at(3), 0.5, 0.02);
  EXPECT_NEAR(shares.at(1), 0.25, 0.02);
  EXPECT_NEAR(shares.at(4), 0.0625, 0.01);
}

TEST(SamplerTest, TemperatureSharpens) {
  // At one half, probabilities are squared: 64 : 16 : 4 : 1 : 1.
  EXPECT_NEAR(Shares({.temperature = 0.5, .seed = 4}).at(3), 64.0 / 86, 0.02);
}

TEST(SamplerTest, TopKKeepsTheMostLikely) {
  const auto shares = Shares({.temperature = 1.0, .top_k = 2, .seed = 4});
  EXPECT_EQ(shares.size(), 2);
  EXPECT_NEAR(shares.at(3), 2.0 / 3, 0.02);
}

TEST(SamplerTest, TopPKeepsTheSmallestSetThatReachesIt) {
  EXPECT_EQ(Shares({.temperature = 1.0, .top_p = 0.45, .seed = 4}).size(), 1);
  EXPECT_EQ(Shares({.temperature = 1.0, .top_p = 0.7, .seed = 4}).size(), 2);
  EXPECT_EQ(Shares({.temperature = 1.0, .top_p = 0.8, .seed = 4}).size(), 3);
}

TEST(SamplerTest, TheSeedDecides) {
  const auto draw = [](uint64_t seed) {
    auto sampler = Sampler::Create({.temperature = 1.0, .seed = seed});
    std::vector<uint32_t> out;
    for (int i = 0; i < 50; ++i) out.push_back(sampler->Sample(kLogits));
    return out;
  };
  EXPECT_EQ(draw(1), draw(1));
  EXPECT_NE(draw(1), draw(2));
}

TEST(SamplerTest, RefusesSettingsOutOfRange) {
  EXPECT_FALSE(Sampler::Create({.temperature = -1}).ok());
  EXPECT_FALSE(Sampler::Create({.temperature = std::nan("")}).ok());
  EXPECT_FALSE(Sampler::Create({.top_p = 0}).ok());
  EXPECT_FALSE(Sampler::Create({.top_p = 1.1}).ok());
}

}  // namespace
}  // namespace passband
