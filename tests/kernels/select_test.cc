// Goal: the selection is exactly the sort-based reference's, ties and NaN included.
#include "kernels/select.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/reference/reference.h"
#include "tests/kernels/random_inputs.h"

namespace passband::kernels {
namespace {

void ExpectReference(const std::vector<float>& scores, const SelectOptions& options) {
  const std::vector<uint32_t> expected = reference::SelectTokens(scores, options);
  ForEachTarget([&](const CpuTarget& target) {
    SCOPED_TRACE(target.name);
    SelectScratch scratch;
    std::vector<uint32_t> selected = {1, 2, 3};
    SelectTokens(scores, options, scratch, selected);
    ASSERT_EQ(selected, expected);
  });
}

std::vector<float> RandomScores(RandomInputs& random, size_t tokens) {
  std::vector<float> scores(tokens);
  const int kind = random.Uniform(0, 5);
  for (size_t t = 0; t < tokens; ++t) {
    switch (kind) {
      case 0:
        scores[t] = std::exp(4 * random.Normal());
        break;
      case 1:
        scores[t] = static_cast<float>(random.Uniform(0, 3));
        break;
      case 2:
        scores[t] = 0.25F;
        break;
      case 3:
        scores[t] = random.Uniform(0, 2) == 0 ? std::nanf("") : std::fabs(random.Normal());
        break;
      case 4:
        scores[t] = t / 64 % 7 == 3 ? 1.0F + std::fabs(random.Normal()) : 1e-6F;
        break;
      default:
        scores[t] = std::nanf("");
    }
  }
  return scores;
}

TEST(SelectTokens, MatchesTheReferenceOnRandomScores) {
  for (uint32_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomInputs random(seed);
    SelectOptions options;
    options.sinks = static_cast<uint32_t>(random.Uniform(0, 8));
    options.recent = static_cast<uint32_t>(random.Uniform(0, 80));
    options.budget = options.sinks + options.recent +
                     static_cast<uint32_t>(random.OneOf({0, 1, 7, 100, 188, 1000}));
    const int tokens = random.OneOf({0, 1, 15, 16, 17, 100, 257, 1000, 5000, 9001});
    ExpectReference(RandomScores(random, static_cast<size_t>(tokens)), options);
  }
}

TEST(SelectTokens, TakesEverythingWhenTheBudgetAllows) {
  for (const size_t tokens : {0, 1, 255, 256}) {
    ExpectReference(std::vector<float>(tokens, 1.0F), {});
  }
}

TEST(SelectTokens, TakesOnlyTheForcedTokensWhenThatIsTheBudget) {
  RandomInputs random(5);
  ExpectReference(RandomScores(random, 5000), {.budget = 68, .sinks = 4, .recent = 64});
  ExpectReference(RandomScores(random, 5000), {.budget = 0, .sinks = 0, .recent = 0});
}

TEST(SelectTokens, PrefersTheNewerOfEqualScores) {
  std::vector<float> scores(1000, 0.5F);
  scores[100] = 0.75F;
  SelectScratch scratch;
  std::vector<uint32_t> selected;
  SelectTokens(scores, {.budget = 4, .sinks = 1, .recent = 1}, scratch, selected);
  EXPECT_EQ(selected, (std::vector<uint32_t>{0, 100, 998, 999}));
}

TEST(SelectTokens, RanksTinyHugeAndZeroScoresExactly) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> scores(600, 0.0F);
  for (size_t t = 0; t < scores.size(); t += 2) scores[t] = -0.0F;
  for (size_t t = 0; t < 300; t += 3) scores[t] = tiny * static_cast<float>(t);
  scores[77] = infinity;
  for (const uint32_t budget : {1U, 2U, 50U, 120U, 400U}) {
    ExpectReference(scores, {.budget = budget, .sinks = 0, .recent = 0});
  }
}

}  // namespace
}  // namespace passband::kernels
