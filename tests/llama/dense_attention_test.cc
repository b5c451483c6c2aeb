// Goal: dense attention is exact softmax attention under the causal mask, for
// any place of the queries relative to tile borders.
#include "llama/dense_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "fmt/format.h"
#include "kernels/dtype.h"

namespace passband {
namespace {

struct Problem {
  kernels::HeadShape shape{.head_dim = 32, .rotary_dim = 32};
  uint32_t q_heads = 6;
  uint32_t kv_heads = 2;
  uint64_t first = 0;
  uint32_t count = 0;
  std::vector<float> queries;
  std::vector<float> pairs;  // [kv_head][token][K | V], as rounded
  std::vector<std::byte> rows;

  Problem(uint64_t seed, uint64_t first_position, uint32_t positions, float spread)
      : first(first_position), count(positions) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal(0.0F, spread);
    queries.resize(size_t{count} * q_heads * shape.head_dim);
    for (float& q : queries) q = normal(random);
    pairs.resize(kv_heads * tokens() * 2 * shape.head_dim);
    for (float& element : pairs) element = normal(random);
    rows.resize(pairs.size() * 2);
    kernels::FloatToDType(pairs.data(), pairs.size(), shape.dtype, rows.data());
    kernels::DTypeToFloat(rows.data(), pairs.size(), shape.dtype, pairs.data());
  }

  uint64_t tokens() const { return first + count; }

  std::vector<float> Solve(WorkerPool& pool) const {
    std::vector<float> out(queries.size());
    std::vector<const std::byte*> heads;
    for (uint32_t h = 0; h < kv_heads; ++h) {
      heads.push_back(rows.data() + h * tokens() * shape.row_bytes());
    }
    DenseCausalAttention({.shape = shape,
                          .q_heads = q_heads,
                          .scale = 0.3F,
                          .first_position = first,
                          .count = count,
                          .queries = queries.data(),
                          .head_rows = heads,
                          .out = out.data()},
                         pool);
    return out;
  }

  // Element `dim` of the output of query head `head` at `position`.
  std::vector<double> Expected(uint32_t position, uint32_t head) const {
    const size_t dim = shape.head_dim;
    const float* query = queries.data() + (size_t{position} * q_heads + head) * dim;
    const float* row = pairs.data() + head / (q_heads / kv_heads) * tokens() * 2 * dim;
    std::vector<double> scores;
    double largest = -1e300;
    for (uint64_t t = 0; t <= first + position; ++t) {
      double dot = 0;
      for (size_t i = 0; i < dim; ++i) {
        dot += static_cast<double>(query[i]) * static_cast<double>(row[t * 2 * dim + i]);
      }
      scores.push_back(dot * static_cast<double>(0.3F));
      largest = std::max(largest, scores.back());
    }
    std::vector<double> out(dim, 0.0);
    double total = 0;
    for (size_t t = 0; t < scores.size(); ++t) {
      const double weight = std::exp(scores[t] - largest);
      total += weight;
      for (size_t i = 0; i < dim; ++i) {
        out[i] += weight * static_cast<double>(row[t * 2 * dim + dim + i]);
      }
    }
    for (double& element : out) element /= total;
    return out;
  }
};

void ExpectExact(const Problem& problem, WorkerPool& pool, double tolerance = 1e-4) {
  const std::vector<float> out = problem.Solve(pool);
  for (uint32_t position = 0; position < problem.count; ++position) {
    for (uint32_t head = 0; head < problem.q_heads; ++head) {
      const std::vector<double> expected = problem.Expected(position, head);
      for (size_t i = 0; i < expected.size(); ++i) {
        ASSERT_NEAR(out[(size_t{position} * problem.q_heads + head) * expected.size() + i],
                    expected[i], tolerance)
            << "position " << problem.first + position << " head " << head;
      }
    }
  }
}

TEST(DenseAttentionTest, MatchesThePlainDefinitionAtEveryBorder) {
  const uint64_t seed = std::random_device{}();
  WorkerPool pool(2);
  for (const uint64_t first : {0, 1, 63, 500, 512}) {
    for (const uint32_t count : {1, 63, 64, 65, 130}) {
      SCOPED_TRACE(fmt::format("seed {} first {} count {}", seed, first, count));
      ExpectExact(Problem(seed, first, count, 1.0F), pool);
    }
  }
}

TEST(DenseAttentionTest, LargeScoresDoNotOverflow) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  WorkerPool pool(2);
  // Scores of several hundred: exp of any of them alone is infinite, and float
  // holds them to about 1e-4, which the softmax hands on to outputs of up to 50.
  ExpectExact(Problem(seed, 520, 3, 12.0F), pool, /*tolerance=*/0.02);
}

TEST(DenseAttentionTest, DoesNotDependOnTheNumberOfThreads) {
  const Problem problem(7, 30, 200, 1.0F);
  WorkerPool one(1);
  WorkerPool three(3);
  EXPECT_EQ(problem.Solve(one), problem.Solve(three));
}

}  // namespace
}  // namespace passband
