// Goal: conversions round to nearest even and keep NaN, infinity and subnormals.
#include "kernels/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/gather.h"

namespace passband::kernels {
namespace {

uint16_t Narrow(float value, DType dtype) {
  uint16_t bits = 0;
  std::byte out[2];
  FloatToDType(&value, 1, dtype, out);
  std::memcpy(&bits, out, 2);
  return bits;
}

float Widen(uint16_t bits, DType dtype) {
  std::byte in[2];
  std::memcpy(in, &bits, 2);
  float value = 0;
  DTypeToFloat(in, 1, dtype, &value);
  return value;
}

double F16Value(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  const double value =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (bits & 0x8000) != 0 ? -value : value;
}

TEST(DType, EveryF16WidensToItsValueAndBack) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = Widen(half, DType::kF16);
    if ((bits & 0x7c00) == 0x7c00) {
      EXPECT_EQ(std::isnan(value), (bits & 0x3ff) != 0);
      EXPECT_EQ(std::isinf(value), (bits & 0x3ff) == 0);
      if (std::isinf(value)) {
        EXPECT_EQ(Narrow(value, DType::kF16), half);
      }
      continue;
    }
    ASSERT_EQ(value, F16Value(half)) << bits;
    ASSERT_EQ(std::signbit(value), (bits & 0x8000) != 0);
    ASSERT_EQ(Narrow(value, DType::kF16), half);
  }
}

TEST(DType, EveryBf16SurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = Widen(half, DType::kBf16);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(Widen(Narrow(value, DType::kBf16), DType::kBf16)));
    } else {
      ASSERT_EQ(Narrow(value, DType::kBf16), half);
    }
  }
}

// Between two neighbours the nearer wins, and the even one of two equally near.
TEST(DType, NarrowingRoundsToNearestEven) {
  for (const DType dtype : {DType::kBf16, DType::kF16}) {
    const uint32_t infinity = dtype == DType::kBf16 ? 0x7f80 : 0x7c00;
    for (uint32_t bits = 0; bits + 1 < infinity; ++bits) {
      const double low = Widen(static_cast<uint16_t>(bits), dtype);
      const double high = Widen(static_cast<uint16_t>(bits + 1), dtype);
      const auto middle = static_cast<float>((low + high) / 2);
      const auto below = std::nextafter(middle, 0.0F);
      const auto above = std::nextafter(middle, std::numeric_limits<float>::infinity());
      ASSERT_EQ(Narrow(middle, dtype), bits % 2 == 0 ? bits : bits + 1) << bits;
      ASSERT_EQ(Narrow(below, dtype), bits);
      ASSERT_EQ(Narrow(above, dtype), bits + 1);
    }
    EXPECT_EQ(Narrow(std::numeric_limits<float>::max(), dtype), infinity);
    EXPECT_TRUE(std::isnan(Widen(Narrow(std::nanf(""), dtype), dtype)));
  }
}

TEST(GatherRows, CopiesEveryRowInOrder) {
  std::mt19937 engine(11);
  std::vector<std::byte> store(1000 * 48);
  for (std::byte& byte : store) byte = static_cast<std::byte>(engine());
  for (const size_t count : {0, 1, 15, 16, 17, 300}) {
    std::vector<const std::byte*> rows;
    for (size_t i = 0; i < count; ++i) rows.push_back(store.data() + engine() % 1000 * 48);
    std::vector<std::byte> out(count * 48 + 1, std::byte{0xa5});
    GatherRows(rows, 48, out.data());
    for (size_t i = 0; i < count; ++i) {
      ASSERT_EQ(std::memcmp(out.data() + i * 48, rows[i], 48), 0) << i;
    }
    EXPECT_EQ(out.back(), std::byte{0xa5});
  }
}

}  // namespace
}  // namespace passband::kernels
