// Goal: every selector that FASA is compared with chooses what its definition
// says, found again by brute force in double precision on fresh random keys.
#include "services/worker/eval/selectors.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "tests/worker/key_world.h"

namespace passband {
namespace {

using testing::KeyWorld;
using Sets = std::vector<std::vector<uint32_t>>;

constexpr uint64_t kBefore = 300;
constexpr uint32_t kCount = 45;
constexpr double kSlack = 1e-5;  // relative, between float and double scores

bool Forced(uint32_t token, uint64_t context, const kernels::SelectOptions& options) {
  return token < options.sinks || token + uint64_t{options.recent} >= context;
}

// `set` is rising, within the context, `budget` long, holds what is forced, and
// no token outside it is clearly better than a chosen one.
void ExpectTop(const std::vector<uint32_t>& set, const std::vector<double>& scores,
               const kernels::SelectOptions& options) {
  const uint64_t context = scores.size();
  ASSERT_EQ(set.size(), std::min<uint64_t>(options.budget, context));
  ASSERT_TRUE(std::adjacent_find(set.begin(), set.end(), std::greater_equal<>()) == set.end());
  ASSERT_LT(set.back(), context);
  double worst_chosen = 1, best_left = 0;
  const std::set<uint32_t> chosen(set.begin(), set.end());
  for (uint32_t token = 0; token < context; ++token) {
    if (chosen.count(token) == 0) {
      ASSERT_FALSE(Forced(token, context, options)) << token;
      best_left = std::max(best_left, scores[token]);
    } else if (!Forced(token, context, options)) {
      worst_chosen = std::min(worst_chosen, scores[token]);
    }
  }
  EXPECT_GE(worst_chosen, best_left * (1 - kSlack));
}

TEST(OracleSelector, TakesTheTopOfTheGroupsMeanWeights) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(seed);
  KeyWorld world(seed, kBefore, kCount);
  const kernels::SelectOptions options{40, 4, 8};
  OracleSelector selector(options);
  selector.BeginLayer(*world.keys);
  for (int round = 0; round < 20; ++round) {
    const uint64_t context = kBefore + 1 + world.Below(kCount);
    const uint32_t head = world.Below(2);
    const auto queries = world.Queries();
    Sets sets;
    selector.Choose(head, context, queries.data(), sets);
    ASSERT_EQ(sets.size(), 1U);
    ExpectTop(sets[0], world.GroupWeights(head, context, queries), options);
  }
}

TEST(StreamSelector, KeepsSinksAndTheNewest) {
  StreamSelector selector({10, 3, 4});
  Sets sets;
  selector.Choose(0, 100, nullptr, sets);
  EXPECT_THAT(sets,
              ::testing::ElementsAre(::testing::ElementsAre(0, 1, 2, 93, 94, 95, 96, 97, 98, 99)));
  selector.Choose(0, 6, nullptr, sets);
  EXPECT_THAT(sets, ::testing::ElementsAre(::testing::ElementsAre(0, 1, 2, 3, 4, 5)));
}

// A page's bound for the group, straight from the definition.
double PageBound(const KeyWorld& world, uint32_t kv_head, uint64_t page, uint64_t context,
                 const std::vector<float>& queries) {
  const uint64_t end = std::min<uint64_t>(context, (page + 1) * kQuestPage);
  const uint32_t dim = world.model.head.head_dim;
  double best = -1e300;
  for (uint32_t head = 0; head < world.model.group(); ++head) {
    double sum = 0;
    for (uint32_t d = 0; d < dim; ++d) {
      double low = 1e300, high = -1e300;
      for (uint64_t t = page * kQuestPage; t < end; ++t) {
        low = std::min(low, double{world.Key(kv_head, t, d)});
        high = std::max(high, double{world.Key(kv_head, t, d)});
      }
      const double query = queries[head * dim + d];
      sum += std::max(query * low, query * high);
    }
    best = std::max(best, sum);
  }
  return best;
}

TEST(QuestSelector, TakesThePagesWithTheLargestBounds) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(seed);
  KeyWorld world(seed, kBefore, kCount);
  const kernels::SelectOptions options{128, 4, 20};
  QuestSelector selector(options);
  selector.BeginLayer(*world.keys);
  for (int round = 0; round < 20; ++round) {
    const uint64_t context = kBefore + 1 + world.Below(kCount);
    const uint32_t head = world.Below(2);
    const auto queries = world.Queries();
    Sets sets;
    selector.Choose(head, context, queries.data(), sets);
    ASSERT_EQ(sets.size(), 1U);

    const std::set<uint32_t> chosen(sets[0].begin(), sets[0].end());
    ASSERT_EQ(chosen.size(), sets[0].size());
    const uint64_t pages = (context + kQuestPage - 1) / kQuestPage;
    uint64_t taken = 0;
    double worst_chosen = 1e300, best_left = -1e300;
    for (uint64_t page = 0; page < pages; ++page) {
      const uint64_t first = page * kQuestPage;
      const uint64_t end = std::min<uint64_t>(context, first + kQuestPage);
      const bool in = chosen.count(static_cast<uint32_t>(first)) > 0;
      bool forced = false;
      for (uint64_t t = first; t < end; ++t) {
        ASSERT_EQ(chosen.count(static_cast<uint32_t>(t)) > 0, in) << "a page is torn at " << t;
        forced |= Forced(static_cast<uint32_t>(t), context, options);
      }
      taken += in ? 1 : 0;
      ASSERT_TRUE(in || !forced) << "page " << page;
      const double bound = PageBound(world, head, page, context, queries);
      if (in && !forced) worst_chosen = std::min(worst_chosen, bound);
      if (!in) best_left = std::max(best_left, bound);
    }
    EXPECT_EQ(taken, options.budget / kQuestPage);
    EXPECT_GE(worst_chosen, best_left - 1e-3);
  }
}

// With every chunk in bf16, which the keys are anyway, scores are exact.
std::shared_ptr<const Profile> EveryChunk(const ModelInfo& model) {
  auto profile = std::make_shared<Profile>();
  profile->granularity = Profile::Granularity::kQueryHead;
  profile->layers = model.layers;
  profile->query_heads = model.query_heads;
  profile->kv_heads = model.kv_heads;
  auto spec = std::make_shared<kernels::SliceSpec>();
  spec->shape = model.head;
  spec->encoding = kernels::SliceEncoding::kBf16;
  spec->chunks.resize(static_cast<size_t>(model.head.chunks()));
  std::iota(spec->chunks.begin(), spec->chunks.end(), uint16_t{0});
  spec->mean.assign(2 * spec->chunks.size(), 0.0F);
  spec->deviation.assign(2 * spec->chunks.size(), 1.0F);
  profile->specs.assign(size_t{model.layers} * model.query_heads, spec);
  return profile;
}

TEST(HeadSelector, GivesEveryQueryHeadItsOwnTop) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(seed);
  KeyWorld world(seed, kBefore, kCount);
  const kernels::SelectOptions options{32, 0, 0};
  HeadSelector selector(EveryChunk(world.model), options);
  selector.BeginLayer(*world.keys);
  for (uint64_t context = kBefore + 1; context <= kBefore + kCount; context += 7) {
    for (uint32_t head = 0; head < world.model.kv_heads; ++head) {
      const auto queries = world.Queries();
      Sets sets;
      selector.Choose(head, context, queries.data(), sets);
      ASSERT_EQ(sets.size(), world.model.group());
      for (uint32_t i = 0; i < sets.size(); ++i) {
        ExpectTop(sets[i], world.Weights(head, context, queries, i), options);
      }
    }
  }
}

TEST(LayerKeys, LogitsAreScaledProducts) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(seed);
  KeyWorld world(seed, 20, 5);
  ASSERT_EQ(world.keys->tokens(), 25U);
  const auto queries = world.Queries();
  std::vector<float> logits(world.model.group() * 23);
  world.keys->Logits(1, 23, queries.data(), world.model.group(), logits.data());
  SoftmaxRows(logits.data(), world.model.group(), 23);
  for (uint32_t head = 0; head < world.model.group(); ++head) {
    const auto weights = world.Weights(1, 23, queries, head);
    for (size_t t = 0; t < 23; ++t) EXPECT_NEAR(logits[head * 23 + t], weights[t], 1e-5);
  }
}

}  // namespace
}  // namespace passband
