// Goal: attention agrees with a float64 reference for every shape, and stays
// finite on extreme scores.
#include "kernels/fac.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/reference/reference.h"
#include "tests/kernels/random_inputs.h"

namespace passband::kernels {
namespace {

struct Case {
  FacParams params;
  std::vector<float> queries;
  std::vector<std::byte> store;
  std::vector<const std::byte*> rows;
};

Case RandomCase(RandomInputs& random, size_t rows) {
  Case c;
  c.params.shape = random.Shape();
  if (random.Uniform(0, 3) == 0) {
    c.params.shape.head_dim = static_cast<uint16_t>(2 * random.Uniform(1, 128));
  }
  c.params.group = random.Uniform(1, 8);
  const size_t dims = c.params.shape.head_dim;
  c.params.scale = 1 / std::sqrt(static_cast<float>(dims));
  c.queries = random.Normals(static_cast<size_t>(c.params.group) * dims, 2.0F);
  c.store = random.Elements(rows * 2 * dims, c.params.shape.dtype);
  for (size_t r = 0; r < rows; ++r) {
    c.rows.push_back(c.store.data() + r * c.params.shape.row_bytes());
  }
  return c;
}

void ExpectNear(const std::vector<float>& actual, const std::vector<double>& expected,
                double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], tolerance) << "at " << i;
  }
}

TEST(Fac, MatchesFloat64OnRandomShapes) {
  for (uint32_t seed = 0; seed < 120; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomInputs random(seed);
    const int rows = random.OneOf({1, 2, 3, 31, 32, 33, 64, 65, 256, 700});
    Case c = RandomCase(random, static_cast<size_t>(rows));
    std::shuffle(c.rows.begin(), c.rows.end(), random.engine());
    c.params.queries = c.queries.data();
    const reference::Attention expected = reference::Fac(c.params, c.rows);
    ForEachTarget([&](const CpuTarget& target) {
      SCOPED_TRACE(target.name);
      std::vector<float> out(c.queries.size(), -7.0F);
      std::vector<float> weights(expected.weights.size(), -7.0F);
      FacParams params = c.params;
      params.out = out.data();
      Fac(params, c.rows, weights.data());
      ExpectNear(out, expected.out, 1e-5);
      ExpectNear(weights, expected.weights, 2e-6);
    });
  }
}

TEST(Fac, ContiguousRowsGiveTheSameBitsAsPointers) {
  for (uint32_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomInputs random(seed);
    Case c = RandomCase(random, static_cast<size_t>(random.Uniform(1, 200)));
    std::vector<float> scattered(c.queries.size());
    std::vector<float> contiguous(c.queries.size());
    c.params.queries = c.queries.data();
    c.params.out = scattered.data();
    Fac(c.params, c.rows);
    c.params.out = contiguous.data();
    FacContiguous(c.params, c.store.data(), c.rows.size());
    EXPECT_EQ(scattered, contiguous);
  }
}

TEST(Fac, GivesZeroForNoRowsAndTheValueForOne) {
  RandomInputs random(7);
  Case c = RandomCase(random, 1);
  std::vector<float> out(c.queries.size(), 5.0F);
  c.params.queries = c.queries.data();
  c.params.out = out.data();
  Fac(c.params, {});
  EXPECT_EQ(out, std::vector<float>(out.size(), 0.0F));
  Fac(c.params, c.rows);
  ExpectNear(out, reference::Fac(c.params, c.rows).out, 1e-6);
}

// Scores of 1e4 and more, rising and falling over the rows: the running maximum
// changes in every tile.
TEST(Fac, StaysExactWhenOneRowTakesAll) {
  RandomInputs random(8);
  for (const float direction : {1.0F, -1.0F}) {
    Case c = RandomCase(random, 0);
    c.params.shape = HeadShape{};
    c.params.group = 3;
    c.queries.assign(3 * 128, 100.0F);
    std::vector<float> values(200 * 256);  // integers up to 256 are exact in bf16
    for (size_t i = 0; i < values.size(); ++i) {
      const auto row = static_cast<float>(i / 256);
      values[i] = i % 256 < 128 ? direction * (row - 100) : row;
    }
    c.store.resize(values.size() * 2);
    FloatToDType(values.data(), values.size(), DType::kBf16, c.store.data());
    std::vector<float> out(3 * 128);
    c.params.queries = c.queries.data();
    c.params.out = out.data();
    FacContiguous(c.params, c.store.data(), 200);
    for (const float value : out) EXPECT_NEAR(value, direction > 0 ? 199.0F : 0.0F, 1e-30F);
  }
}

TEST(Fac, StaysFiniteWhenScoresOverflow) {
  RandomInputs random(9);
  for (const float size : {1e18F, 1e30F, 3e38F}) {
    Case c = RandomCase(random, 0);
    c.params.shape.dtype = DType::kF32;
    c.params.shape.head_dim = 64;
    c.params.shape.rotary_dim = 64;
    c.params.group = 4;
    c.queries = random.Normals(4 * 64, size);
    for (float& q : c.queries) q = std::clamp(q, -3e38F, 3e38F);
    std::vector<float> store = random.Normals(100 * 128, 1.0F);
    for (size_t i = 0; i < store.size(); ++i) {
      if (i % 128 < 64) store[i] = std::clamp(std::fabs(store[i]) * size, 0.0F, 3e38F);
    }
    // One sign only, so that no product is infinity minus infinity.
    for (float& q : c.queries) q = std::fabs(q);
    std::vector<float> out(4 * 64);
    c.params.scale = 0.125F;
    c.params.queries = c.queries.data();
    c.params.out = out.data();
    FacContiguous(c.params, reinterpret_cast<const std::byte*>(store.data()), 100);
    for (const float value : out) EXPECT_TRUE(std::isfinite(value)) << size;
  }
}

}  // namespace
}  // namespace passband::kernels
