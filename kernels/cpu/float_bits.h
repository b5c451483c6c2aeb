// Scalar conversions between float and the 8 and 16 bit types, bit by bit, so
// that every target and compiler gives the same result.
//
// Contract  round to nearest even; NaN stays NaN (canonical where it narrows).
#pragma once

#include <bit>
#include <cstdint>

namespace passband::kernels {

inline constexpr uint16_t kBf16Nan = 0x7fc0;
inline constexpr uint8_t kFp8Nan = 0x7f;
inline constexpr uint8_t kFp8Max = 0x7e;  // 448

inline float Bf16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

inline uint16_t FloatToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  return nan ? kBf16Nan : static_cast<uint16_t>(rounded);
}

// Multiplying by 2^112 rebases the exponent, and makes subnormals normal.
inline float F16ToFloat(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000U) << 16;
  const uint32_t magnitude = (bits & 0x7fffU) << 13;
  const float scaled = std::bit_cast<float>(magnitude) * 0x1p112F;
  const uint32_t special = (bits & 0x7c00U) == 0x7c00U ? 0x7f800000U : 0U;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | special | sign);
}

inline uint16_t FloatToF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000U;
  const uint32_t magnitude = bits & 0x7fffffffU;
  uint32_t half = 0;
  if (magnitude > 0x7f800000U) {
    half = 0x7e00U;
  } else if (magnitude >= 0x477ff000U) {  // rounds to 65536 or more
    half = 0x7c00U;
  } else if (magnitude < 0x38800000U) {  // subnormal: adding 0.5 rounds at 2^-24
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3f000000U;
  } else {
    half = (magnitude - 0x38000000U + 0xfffU + ((magnitude >> 13) & 1)) >> 13;
  }
  return static_cast<uint16_t>(half | sign);
}

inline float Fp8ToFloat(uint8_t bits) {
  const uint32_t sign = (bits & 0x80U) << 24;
  const uint32_t magnitude = bits & 0x7fU;
  const float scaled = std::bit_cast<float>(magnitude << 20) * 0x1p120F;
  const uint32_t value = magnitude == kFp8Nan ? 0x7fc00000U : std::bit_cast<uint32_t>(scaled);
  return std::bit_cast<float>(value | sign);
}

// e4m3fn, saturating.
inline uint8_t FloatToFp8(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 24) & 0x80U;
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return kFp8Nan;
  uint32_t code = 0;
  if (magnitude >= 0x43e00000U) {  // 448
    code = kFp8Max;
  } else if (magnitude < 0x3c800000U) {  // below 2^-6: adding 2^14 rounds at 2^-9
    code = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0x1p14F) - 0x46800000U;
  } else {
    code = (magnitude - 0x3c000000U + 0x7ffffU + ((magnitude >> 20) & 1)) >> 20;
  }
  return static_cast<uint8_t>(code | sign);
}

}  // namespace passband::kernels
