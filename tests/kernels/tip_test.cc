// Goal: integer scores are exact on every instruction set, TIP's scores follow
// the reference softmax, and a SliceIndex holds what was put in.
#include "kernels/tip.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/cpu/tip_kernels.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/random_inputs.h"

namespace passband::kernels {
namespace {

struct Case {
  std::shared_ptr<SliceSpec> spec;
  std::vector<std::byte> slices;
  std::unique_ptr<SliceIndex> index;
  std::vector<float> queries;
  int group = 1;
  float scale = 1;
};

Case RandomCase(RandomInputs& random, SliceEncoding encoding, size_t tokens) {
  Case c;
  const HeadShape shape = random.Shape();
  c.spec = random.Spec(shape, encoding);
  c.slices.resize(tokens * c.spec->slice_bytes());
  const auto keys = random.Elements(tokens * shape.head_dim, shape.dtype, 2.0F);
  EncodeSlices(*c.spec, keys.data(), shape.key_bytes(), tokens, c.slices.data());
  c.index = std::make_unique<SliceIndex>(c.spec);
  c.index->AppendKeys(keys.data(), shape.key_bytes(), tokens);
  c.group = random.Uniform(1, 8);
  c.queries = random.Normals(static_cast<size_t>(c.group) * shape.head_dim);
  c.scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
  return c;
}

void ExpectReferenceScores(const Case& c) {
  const size_t tokens = c.index->tokens();
  const std::vector<double> expected =
      reference::TipScores(*c.spec, c.slices, tokens, c.queries.data(), c.group, c.scale);
  ForEachTarget([&](const CpuTarget& target) {
    SCOPED_TRACE(target.name);
    TipScratch scratch;
    std::vector<float> scores(tokens + 1, -3.0F);
    TipScores(*c.index, c.queries.data(), c.group, c.scale, scratch, scores.data());
    EXPECT_EQ(scores.back(), -3.0F) << "wrote past the end";
    for (size_t t = 0; t < tokens; ++t) {
      ASSERT_NEAR(scores[t], expected[t], 1e-5 * expected[t] + 1e-30) << "token " << t;
    }
    const double total = std::accumulate(scores.begin(), scores.end() - 1, 0.0);
    if (tokens > 0) {
      EXPECT_NEAR(total, 1.0, 1e-5);
    }
  });
}

TEST(TipScores, FollowsTheReferenceOnRandomShapes) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    for (const SliceEncoding encoding : kAllEncodings) {
      SCOPED_TRACE("seed " + std::to_string(seed));
      RandomInputs random(seed);
      const int tokens = random.OneOf({0, 1, 15, 16, 17, 33, 511, 512, 513, 1500});
      ExpectReferenceScores(RandomCase(random, encoding, static_cast<size_t>(tokens)));
    }
  }
}

TEST(TipScores, FollowsTheReferenceOnALongContext) {
  for (const SliceEncoding encoding : kAllEncodings) {
    RandomInputs random(99);
    ExpectReferenceScores(RandomCase(random, encoding, 5000));
  }
}

// Very peaked: other blocks' weights vanish beside the best one's.
TEST(TipScores, FollowsTheReferenceOnPeakedScores) {
  for (const SliceEncoding encoding : kAllEncodings) {
    RandomInputs random(100);
    Case c = RandomCase(random, encoding, 2000);
    for (float& q : c.queries) q *= 8;
    ExpectReferenceScores(c);
  }
}

TEST(TipScores, GivesEqualSlicesEqualScoresInEveryBlock) {
  for (const SliceEncoding encoding : kAllEncodings) {
    RandomInputs random(101);
    Case c = RandomCase(random, encoding, 2000);
    const size_t bytes = c.spec->slice_bytes();
    for (size_t t = 0; t < 2000; t += 100) {
      c.index->AppendSlices(c.slices.data() + t * bytes, 1);
    }
    TipScratch scratch;
    std::vector<float> scores(c.index->tokens());
    TipScores(*c.index, c.queries.data(), c.group, c.scale, scratch, scores.data());
    for (size_t i = 0; i < 20; ++i) EXPECT_EQ(scores[2000 + i], scores[100 * i]) << i;
  }
}

TEST(TipScores, IsUniformForAZeroQuery) {
  for (const SliceEncoding encoding : kAllEncodings) {
    RandomInputs random(102);
    Case c = RandomCase(random, encoding, 700);
    std::fill(c.queries.begin(), c.queries.end(), 0.0F);
    ExpectReferenceScores(c);
  }
}

TEST(TipScores, SurvivesNonNumbersInKeysAndHugeQueries) {
  for (const SliceEncoding encoding : kAllEncodings) {
    RandomInputs random(103);
    const HeadShape shape{};
    const auto spec = random.Spec(shape, encoding, 24);
    std::vector<float> keys = random.Normals(600 * 128);
    std::fill_n(keys.begin() + 128 * 5, 128, std::nanf(""));
    std::fill_n(keys.begin() + 128 * 550, 128, INFINITY);
    std::vector<std::byte> stored(keys.size() * 2);
    FloatToDType(keys.data(), keys.size(), DType::kBf16, stored.data());
    SliceIndex index(spec);
    index.AppendKeys(stored.data(), shape.key_bytes(), 600);
    std::vector<float> queries = random.Normals(2 * 128, 1e30F);
    TipScratch scratch;
    std::vector<float> scores(600);
    TipScores(index, queries.data(), 2, 1.0F, scratch, scores.data());
    double total = 0;
    for (const float score : scores) {
      ASSERT_TRUE(std::isfinite(score));
      total += score;
    }
    EXPECT_NEAR(total, 1.0, 1e-4);
  }
}

// The integer logits of all tokens of an index of one run, [heads][kRunTokens], in
// every way there is to them.
std::vector<std::vector<float>> IntegerLogits(const SliceIndex& index, const float* queries,
                                              size_t heads) {
  const SliceSpec& spec = index.spec();
  const size_t tile = TileTokens(spec.encoding);
  const RunTiles run = {index.run(0), index.run(0), index.words_per_tile(),
                        (index.tokens() + tile - 1) / tile};
  std::vector<std::vector<float>> ways(1, std::vector<float>(kHeadsPerPass * kRunTokens));
  std::vector<uint16_t> products(kHeadsPerPass * kRunTokens);
  const auto take_products = [&](std::vector<float>& logits) {
    for (size_t h = 0; h < heads; ++h) {
      ProductLogits(&products[h * kRunTokens], tile, index.tokens(), &logits[h * kRunTokens]);
    }
  };
  if (spec.encoding == SliceEncoding::kInt2) {
    std::vector<LookupTable> tables(LookupTables(spec, heads));
    LookupProducts(run, MakeLookupQuery(spec, queries, heads, 0.1F, tables.data()),
                   products.data());
    take_products(ways[0]);
    return ways;
  }
  std::vector<TileWord> vectors(IntQueryWords(spec, heads));
  const IntQuery query = MakeIntQuery(spec, queries, heads, 0.1F, vectors.data());
  IntLogits(spec.encoding, run, query, ways[0].data());
  if (spec.encoding == SliceEncoding::kInt4 && query.segments == 1) {
    Int4Products(run, query, products.data());
    take_products(ways.emplace_back(ways[0].size()));
  }
  return ways;
}

// Every head's logits less those of token 0 are the exact integer differences,
// also where narrow sums would overflow (large queries of one sign).
TEST(IntegerLogits, AreExactOnEveryTarget) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    for (const SliceEncoding encoding :
         {SliceEncoding::kInt8, SliceEncoding::kInt4, SliceEncoding::kInt2}) {
      SCOPED_TRACE("seed " + std::to_string(seed));
      RandomInputs random(seed);
      HeadShape shape = random.Shape();
      if (seed % 4 == 0) shape = {256, 256, RopeLayout::kHalf, DType::kBf16};
      const auto spec = random.Spec(shape, encoding, seed % 4 == 0 ? 128 : 0);
      if (seed % 2 == 0) std::fill(spec->deviation.begin(), spec->deviation.end(), 1.0F);
      const size_t tokens = 90;
      const size_t bytes = spec->slice_bytes();
      std::vector<std::byte> slices(tokens * bytes);
      const auto keys = random.Elements(tokens * shape.head_dim, shape.dtype, 10.0F);
      EncodeSlices(*spec, keys.data(), shape.key_bytes(), tokens, slices.data());
      SliceIndex index(spec);
      index.AppendSlices(slices.data(), tokens);
      const size_t heads = static_cast<size_t>(random.Uniform(1, 4));
      std::vector<float> queries = random.Normals(heads * shape.head_dim);
      if (seed % 2 == 0) std::fill(queries.begin(), queries.end(), seed % 8 == 0 ? 1.0F : -1.0F);

      ForEachTarget([&](const CpuTarget& target) {
        SCOPED_TRACE(target.name);
        const auto ways = IntegerLogits(index, queries.data(), heads);
        for (size_t h = 0; h < heads; ++h) {
          const auto rounded =
              reference::RoundQuery(*spec, queries.data() + h * shape.head_dim, 0.1F);
          const int64_t base = reference::IntegerScore(*spec, rounded, slices.data());
          for (size_t t = 0; t < tokens; ++t) {
            const int64_t exact =
                reference::IntegerScore(*spec, rounded, slices.data() + t * bytes) - base;
            for (const std::vector<float>& logits : ways) {
              const float* of_head = logits.data() + h * kRunTokens;
              ASSERT_EQ(of_head[t] - of_head[0], static_cast<float>(exact)) << h << " " << t;
            }
          }
        }
      });
    }
  }
}

// Random appends and truncations against a plain vector of slices.
TEST(SliceIndex, HoldsWhatAPlainVectorHolds) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomInputs random(seed);
    const HeadShape shape = random.Shape();
    const auto spec = random.Spec(shape, kAllEncodings[seed % 5]);
    const size_t bytes = spec->slice_bytes();
    SliceIndex index(spec);
    std::vector<std::byte> plain;
    for (int step = 0; step < 30; ++step) {
      const size_t tokens = static_cast<size_t>(random.OneOf({0, 1, 2, 15, 16, 17, 40, 100}));
      if (random.Uniform(0, 2) == 0) {
        const size_t left = plain.size() / bytes - std::min(plain.size() / bytes, tokens);
        index.Truncate(left);
        plain.resize(left * bytes);
      } else {
        const auto keys = random.Elements(tokens * shape.head_dim, shape.dtype, 2.0F);
        std::vector<std::byte> slices(tokens * bytes);
        EncodeSlices(*spec, keys.data(), shape.key_bytes(), tokens, slices.data());
        if (random.Uniform(0, 1) == 0) {
          index.AppendKeys(keys.data(), shape.key_bytes(), tokens);
        } else {
          index.AppendSlices(slices.data(), tokens);
        }
        plain.insert(plain.end(), slices.begin(), slices.end());
      }
      ASSERT_EQ(index.tokens(), plain.size() / bytes);
    }
    std::vector<std::byte> copy(plain.size());
    for (size_t t = 0; t < index.tokens(); ++t) index.CopySlice(t, copy.data() + t * bytes);
    EXPECT_TRUE(copy == plain);
  }
}

}  // namespace
}  // namespace passband::kernels
