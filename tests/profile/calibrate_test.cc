// Goal: calibration finds the chunks that carry the attention when they are
// known, and its measures agree with plain computations.
#include "profile/calibrate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "profile/contextual_agreement.h"
#include "profile/head_samples.h"
#include "profile/score_scan.h"

namespace passband {
namespace {

constexpr uint32_t kTokens = 700;
const kernels::HeadShape kShape{.head_dim = 32, .rotary_dim = 32};

// Queries and keys in which only `strong` chunks are large, so that they alone
// decide the scores.
DocumentCapture MakeDocument(const std::vector<int>& strong, unsigned seed, uint32_t query_heads,
                             uint32_t kv_heads, uint32_t layers = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  DocumentCapture document(layers);
  std::vector<float> gain(kShape.head_dim, 0.05F);
  for (const int chunk : strong) {
    const auto dims = kernels::DimsOfChunk(kShape, chunk);
    gain[static_cast<size_t>(dims.first)] = 2.0F;
    gain[static_cast<size_t>(dims.second)] = 2.0F;
  }
  for (LayerCapture& layer : document) {
    layer.tokens = kTokens;
    for (uint32_t p = 400; p < kTokens; p += 20) layer.positions.push_back(p);
    for (size_t i = 0; i < size_t{kv_heads} * kTokens * kShape.head_dim; ++i) {
      layer.keys.push_back(normal(random) * gain[i % kShape.head_dim]);
    }
    for (size_t i = 0; i < layer.positions.size() * query_heads * kShape.head_dim; ++i) {
      layer.queries.push_back(normal(random) * gain[i % kShape.head_dim]);
    }
  }
  return document;
}

CalibrationOptions SmallOptions(uint32_t chunks) {
  CalibrationOptions options;
  options.chunks = chunks;
  options.encoding = kernels::SliceEncoding::kInt4;
  options.top_k = 40;
  options.recent = 16;
  options.threads = 2;
  return options;
}

TEST(CalibrateTest, BothSelectorsFindTheChunksThatCarryTheScores) {
  const std::vector<int> strong = {2, 7, 11};
  const std::vector<DocumentCapture> documents = {MakeDocument(strong, 1, 4, 2)};
  for (const auto selector : {CalibrationOptions::Selector::kCapturedMass,
                              CalibrationOptions::Selector::kContextualAgreement}) {
    CalibrationOptions options = SmallOptions(3);
    options.selector = selector;
    const auto result = Calibrate(kShape, 1, 4, 2, documents, options);
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_EQ(result->specs.size(), 2U);
    for (const auto& spec : result->specs) {
      EXPECT_THAT(spec->chunks, ::testing::ElementsAre(2, 7, 11));
    }
    for (const HeadQuality& quality : result->quality) {
      EXPECT_GT(quality.covered_mass, 0.9 * quality.best_mass);
    }
  }
}

TEST(CalibrateTest, StatisticsArePerComponent) {
  const std::vector<DocumentCapture> documents = {MakeDocument({3}, 2, 2, 1)};
  const auto result = Calibrate(kShape, 1, 2, 1, documents, SmallOptions(1));
  ASSERT_TRUE(result.ok());
  const kernels::SliceSpec& spec = *result->specs[0];
  ASSERT_THAT(spec.chunks, ::testing::ElementsAre(3));
  const auto dims = kernels::DimsOfChunk(kShape, 3);
  for (const auto& [component, dim] : {std::pair{0, dims.first}, std::pair{1, dims.second}}) {
    double sum = 0, squares = 0;
    for (uint32_t t = 0; t < kTokens; ++t) {
      const double k = documents[0][0].keys[t * kShape.head_dim + static_cast<size_t>(dim)];
      sum += k;
      squares += k * k;
    }
    const double mean = sum / kTokens;
    EXPECT_NEAR(spec.mean[static_cast<size_t>(component)], mean, 1e-4);
    EXPECT_NEAR(spec.deviation[static_cast<size_t>(component)],
                std::sqrt(squares / kTokens - mean * mean), 1e-4);
  }
}

TEST(CalibrateTest, AgreementEqualsThePlainDefinition) {
  const std::vector<DocumentCapture> documents = {MakeDocument({1, 4}, 3, 2, 1)};
  const auto all =
      HeadSamples::MeasureAllChunks(documents, 0, 0, kShape, kernels::SliceEncoding::kBf16);
  const HeadSamples samples(documents, 0, 0, 0, 2, 2, all);
  constexpr uint32_t kTop = 50;
  const std::vector<double> agreement = ContextualAgreement(samples, kTop);

  const LayerCapture& capture = documents[0][0];
  const auto top = [&](const std::vector<double>& scores) {
    std::vector<uint32_t> order(scores.size());
    for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(),
              [&](uint32_t a, uint32_t b) { return scores[a] > scores[b]; });
    return std::set<uint32_t>(order.begin(), order.begin() + kTop);
  };
  for (const int chunk : {1, 9}) {
    const auto dims = kernels::DimsOfChunk(kShape, chunk);
    double sum = 0;
    for (size_t p = 0; p < capture.positions.size(); ++p) {
      for (size_t h = 0; h < 2; ++h) {
        const float* q = capture.queries.data() + (p * 2 + h) * kShape.head_dim;
        std::vector<double> full, one;
        for (uint32_t t = 0; t <= capture.positions[p]; ++t) {
          const float* k = capture.keys.data() + t * kShape.head_dim;
          double dot = 0;
          for (size_t d = 0; d < kShape.head_dim; ++d) dot += double{q[d]} * k[d];
          full.push_back(dot);
          one.push_back(double{q[dims.first]} * k[dims.first] +
                        double{q[dims.second]} * k[dims.second]);
        }
        const auto a = top(full), b = top(one);
        sum += static_cast<double>(
                   std::count_if(a.begin(), a.end(), [&](uint32_t t) { return b.contains(t); })) /
               kTop;
      }
    }
    const double expected = sum / static_cast<double>(capture.positions.size() * 2);
    EXPECT_NEAR(agreement[static_cast<size_t>(chunk)], expected, 0.005);
  }
}

TEST(CalibrateTest, TrueAttentionIsASoftmax) {
  const std::vector<DocumentCapture> documents = {MakeDocument({1, 4}, 4, 4, 1)};
  const auto all =
      HeadSamples::MeasureAllChunks(documents, 0, 0, kShape, kernels::SliceEncoding::kBf16);
  const HeadSamples samples(documents, 0, 0, 0, 4, 4, all);
  for (const HeadSamples::Sample& sample : samples.samples()) {
    const std::vector<float> attention = TrueAttention(samples, sample);
    double sum = 0;
    for (const float a : attention) sum += a;
    EXPECT_NEAR(sum, 1.0, 1e-4);
  }
}

TEST(CalibrateTest, PerQueryHeadGivesASetForEachQueryHead) {
  const std::vector<DocumentCapture> documents = {MakeDocument({0, 5}, 5, 4, 2, 2)};
  CalibrationOptions options = SmallOptions(2);
  options.granularity = Profile::Granularity::kQueryHead;
  uint32_t calls = 0;
  const auto result = Calibrate(kShape, 2, 4, 2, documents, options, [&](uint32_t, uint32_t total) {
    ++calls;
    EXPECT_EQ(total, 8U);
  });
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->specs.size(), 8U);
  EXPECT_EQ(calls, 8U);
}

TEST(CalibrateTest, ImpossibleRequestsAreRefused) {
  const std::vector<DocumentCapture> documents = {MakeDocument({0}, 6, 2, 1)};
  CalibrationOptions options = SmallOptions(17);
  EXPECT_EQ(Calibrate(kShape, 1, 2, 1, documents, options).status().code(),
            StatusCode::kInvalidArgument);
  options = SmallOptions(2);
  options.top_k = 5000;
  EXPECT_THAT(Message(Calibrate(kShape, 1, 2, 1, documents, options).status()),
              ::testing::HasSubstr("too short"));
  EXPECT_FALSE(Calibrate(kShape, 1, 2, 1, {}, SmallOptions(2)).ok());
  EXPECT_FALSE(Calibrate(kShape, 2, 2, 1, documents, SmallOptions(2)).ok());
}

TEST(ScoreScanTest, ExponentialSumIsCloseToExp) {
  std::vector<float> values;
  for (int i = 0; i < 1003; ++i) values.push_back(-0.037F * static_cast<float>(i));
  std::vector<float> out = values;
  const float sum = ExponentialSum(0.0F, out.size(), out.data());
  double expected_sum = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double expected = std::exp(double{values[i]});
    expected_sum += expected;
    EXPECT_NEAR(out[i], expected, 1e-4 * expected + 1e-30) << values[i];
  }
  EXPECT_NEAR(sum, expected_sum, 1e-4 * expected_sum);
}

}  // namespace
}  // namespace passband
