// Goal: slices have exactly the reference's bits, on every instruction set.
#include "kernels/slice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/reference/reference.h"
#include "tests/kernels/random_inputs.h"

namespace passband::kernels {
namespace {

std::vector<std::byte> ReferenceSlices(const SliceSpec& spec, const std::byte* keys, size_t stride,
                                       size_t tokens) {
  std::vector<std::byte> slices(tokens * spec.slice_bytes());
  for (size_t t = 0; t < tokens; ++t) {
    reference::EncodeSlice(spec, keys + t * stride, slices.data() + t * spec.slice_bytes());
  }
  return slices;
}

void ExpectReferenceBits(const SliceSpec& spec, const std::vector<std::byte>& keys, size_t stride,
                         size_t tokens) {
  const std::vector<std::byte> expected = ReferenceSlices(spec, keys.data(), stride, tokens);
  ForEachTarget([&](const CpuTarget& target) {
    SCOPED_TRACE(target.name);
    std::vector<std::byte> slices(expected.size() + 1, std::byte{0x5a});
    EncodeSlices(spec, keys.data(), stride, tokens, slices.data());
    EXPECT_EQ(slices.back(), std::byte{0x5a}) << "wrote past the end";
    slices.pop_back();
    EXPECT_TRUE(slices == expected);
  });
}

TEST(EncodeSlices, MatchesTheReferenceOnRandomShapes) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    for (const SliceEncoding encoding : kAllEncodings) {
      SCOPED_TRACE("seed " + std::to_string(seed));
      RandomInputs random(seed);
      const HeadShape shape = random.Shape();
      const auto spec = random.Spec(shape, encoding);
      const size_t tokens = static_cast<size_t>(random.Uniform(0, 40));
      const bool in_rows = random.Uniform(0, 1) == 1;
      const size_t stride = in_rows ? shape.row_bytes() : shape.key_bytes();
      const auto keys =
          random.Elements(tokens * stride / DTypeBytes(shape.dtype), shape.dtype, 3.0F);
      ExpectReferenceBits(*spec, keys, stride, tokens);
    }
  }
}

// Values exactly on, and next to, the borders between codes; and no numbers.
TEST(EncodeSlices, MatchesTheReferenceOnBordersAndNonNumbers) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> hard = {0.0F,           -0.0F,  infinity, -infinity, std::nanf(""),
                             -std::nanf(""), 1e38F,  -1e38F,   1e-40F,    -1e-40F,
                             448.0F,         464.0F, 465.0F,   1e-3F};
  for (int step = -200; step <= 200; ++step) {
    for (const float unit : {0.03F, 0.34F, 1.0F, 0.0009765625F, 0.00146484375F}) {
      const float value = static_cast<float>(step) * unit;
      hard.insert(hard.end(),
                  {value, std::nextafter(value, infinity), std::nextafter(value, -infinity)});
    }
  }
  for (const DType dtype : {DType::kBf16, DType::kF16, DType::kF32}) {
    const HeadShape shape{64, 64, RopeLayout::kHalf, dtype};
    const size_t tokens = hard.size() / 64;
    std::vector<std::byte> keys(tokens * shape.key_bytes());
    FloatToDType(hard.data(), tokens * 64, dtype, keys.data());
    for (const SliceEncoding encoding : kAllEncodings) {
      RandomInputs random(1);
      auto spec = random.Spec(shape, encoding, 32);
      std::fill(spec->mean.begin(), spec->mean.end(), 0.0F);
      std::fill(spec->deviation.begin(), spec->deviation.end(), 1.0F);
      ExpectReferenceBits(*spec, keys, shape.key_bytes(), tokens);
    }
  }
}

TEST(DecodeSlice, IsWithinHalfAStepInsideTheRange) {
  for (const SliceEncoding encoding : kAllEncodings) {
    RandomInputs random(3);
    const HeadShape shape{128, 128, RopeLayout::kHalf, DType::kF32};
    const auto spec = random.Spec(shape, encoding, 24);
    const std::vector<float> key = random.Normals(128);
    std::vector<std::byte> slice(spec->slice_bytes());
    EncodeSlices(*spec, reinterpret_cast<const std::byte*>(key.data()), 512, 1, slice.data());
    std::vector<float> decoded(48);
    DecodeSlice(*spec, slice.data(), decoded.data());
    for (size_t j = 0; j < 48; ++j) {
      const float value = key[static_cast<size_t>(reference::DimOf(*spec, j))];
      if (!IsIntEncoding(encoding)) {
        EXPECT_NEAR(decoded[j], value, std::fabs(value) / 14 + 0.002F);
        continue;
      }
      const float step = spec->deviation[j] * StepOf(encoding);
      const float reach = step * static_cast<float>(LevelsOf(encoding)) / 2;
      if (std::fabs(value - spec->mean[j]) < reach * 0.99F) {
        EXPECT_NEAR(decoded[j], value, 0.501F * step);
      }
    }
  }
}

TEST(DecodeSlice, GivesEveryFp8ItsValue) {
  RandomInputs random(4);
  const auto spec = random.Spec({}, SliceEncoding::kFp8, 1);
  for (int code = 0; code < 256; ++code) {
    const std::byte slice[2] = {static_cast<std::byte>(code), std::byte{0}};
    float decoded[2];
    DecodeSlice(*spec, slice, decoded);
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(decoded[0]));
    } else {
      EXPECT_EQ(decoded[0], reference::Fp8Value(code)) << code;
    }
  }
}

}  // namespace
}  // namespace passband::kernels
