// Codes: one component of a key to its code and back on the device, bit for bit as
// kernels/cpu does it. Every rounding is spelled out, so that no flag fuses two.
//
// Contract  pure functions.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/types.h"

namespace passband::kernels::cuda {

__device__ inline float WidenBf16(uint32_t bits) { return __uint_as_float(bits << 16); }

// Multiplying by 2^112 rebases the exponent, and makes subnormals normal.
__device__ inline float WidenF16(uint32_t bits) {
  const float scaled = __fmul_rn(__uint_as_float((bits & 0x7fffU) << 13), 0x1p112F);
  const uint32_t special = (bits & 0x7c00U) == 0x7c00U ? 0x7f800000U : 0U;
  return __uint_as_float(__float_as_uint(scaled) | special | (bits & 0x8000U) << 16);
}

__device__ inline float WidenFp8(uint32_t bits) {
  const uint32_t magnitude = bits & 0x7fU;
  const float scaled = __fmul_rn(__uint_as_float(magnitude << 20), 0x1p120F);
  const uint32_t value = magnitude == 0x7fU ? 0x7fc00000U : __float_as_uint(scaled);
  return __uint_as_float(value | (bits & 0x80U) << 24);
}

__device__ inline uint32_t NarrowBf16(float value) {
  const uint32_t bits = __float_as_uint(value);
  const bool nan = (bits & 0x7fffffffU) > 0x7f800000U;
  return nan ? 0x7fc0U : (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
}

// e4m3fn, saturating.
__device__ inline uint32_t NarrowFp8(float value) {
  const uint32_t bits = __float_as_uint(value);
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return 0x7fU;
  uint32_t code = 0x7eU;
  if (magnitude < 0x3c800000U) {  // below 2^-6: adding 2^14 rounds at 2^-9
    code = __float_as_uint(__fadd_rn(__uint_as_float(magnitude), 0x1p14F)) - 0x46800000U;
  } else if (magnitude < 0x43e00000U) {  // 448
    code = (magnitude - 0x3c000000U + 0x7ffffU + ((magnitude >> 20) & 1U)) >> 20;
  }
  return code | (bits >> 24 & 0x80U);
}

__device__ inline float LoadElement(const std::byte* from, uint32_t index, DType dtype) {
  if (dtype == DType::kF32) return reinterpret_cast<const float*>(from)[index];
  const uint32_t bits = reinterpret_cast<const uint16_t*>(from)[index];
  return dtype == DType::kBf16 ? WidenBf16(bits) : WidenF16(bits);
}

__device__ inline uint32_t EncodeComponent(SliceEncoding encoding, float value, float mean,
                                           float deviation) {
  if (encoding == SliceEncoding::kBf16) return NarrowBf16(value);
  if (encoding == SliceEncoding::kFp8) return NarrowFp8(value);
  const auto levels = static_cast<float>(LevelsOf(encoding));
  const float z = __fdiv_rn(__fsub_rn(value, mean), deviation);
  const float level = floorf(__fadd_rn(__fdiv_rn(z, StepOf(encoding)), levels / 2));
  if (!(level > 0)) return 0;  // NaN too
  return static_cast<uint32_t>(fminf(level, levels - 1));
}

}  // namespace passband::kernels::cuda
