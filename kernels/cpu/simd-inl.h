// What the SIMD kernels share: vector tags of at most 256 bits (so that tiles of
// 16 tokens stay whole), 2^x, and loads that widen to float. Included once per
// target, as Highway's *-inl.h files are.
#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

#include "kernels/types.h"

#if defined(PASSBAND_KERNELS_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PASSBAND_KERNELS_CPU_SIMD_INL_H_
#undef PASSBAND_KERNELS_CPU_SIMD_INL_H_
#else
#define PASSBAND_KERNELS_CPU_SIMD_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace passband::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 8>;
using U32 = hn::RebindToUnsigned<F32>;
using I32 = hn::RebindToSigned<F32>;
using U16 = hn::Repartition<uint16_t, F32>;
using HalfU16 = hn::Rebind<uint16_t, F32>;
using VF = hn::Vec<F32>;
using VU16 = hn::Vec<U16>;

// Adding it leaves round-to-nearest of the addend in the low mantissa bits.
inline constexpr float kRoundMagic = 12582912.0F;  // 1.5 * 2^23

// 2^f for |f| <= 0.5 (relative error 1e-7), times 2^n for the integer n in the
// low 9 bits of `shifted`'s pattern: the exponent is added as an integer.
HWY_INLINE VF Exp2Parts(VF f, VF shifted) {
  const F32 d;
  const U32 du;
  VF p = hn::Set(d, 0.00132764725F);
  p = hn::MulAdd(p, f, hn::Set(d, 0.00967554096F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.0555071309F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.240221202F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.693146944F));
  p = hn::MulAdd(p, f, hn::Set(d, 1.00000012F));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(du, shifted));
  return hn::BitCast(d, hn::Add(hn::BitCast(du, p), exponent));
}

// 2^x for x <= 0; below 2^-126 it stays there.
HWY_INLINE VF Exp2NonPositive(VF x) {
  const F32 d;
  x = hn::Max(x, hn::Set(d, -126.0F));
  const VF shifted = hn::Add(x, hn::Set(d, kRoundMagic));
  const VF n = hn::Sub(shifted, hn::Set(d, kRoundMagic));
  return Exp2Parts(hn::Sub(x, n), shifted);
}

// 16 bit floats in the low half of each 32 bit lane, to float. Not the
// hardware's conversion, so that all targets agree on every bit.
HWY_INLINE VF WidenF16(hn::Vec<U32> bits) {
  const F32 d;
  const U32 du;
  const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(du, 0x8000)));
  const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(du, 0x7fff)));
  const VF scaled = hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p112F));
  const auto exponent = hn::Set(du, 0x7c00);
  const auto special =
      hn::IfThenElseZero(hn::Eq(hn::And(bits, exponent), exponent), hn::Set(du, 0x7f800000));
  return hn::BitCast(d, hn::Or(hn::Or(hn::BitCast(du, scaled), special), sign));
}

// Loads 2 * Lanes(F32) consecutive elements as two vectors, in an order that is
// cheap and the same for every load of one dtype: bf16 gives the even and the
// odd elements, the others the first and the second half.
template <DType kDType>
HWY_INLINE void LoadPair(const std::byte* from, VF& a, VF& b) {
  const F32 d;
  const U32 du;
  const size_t lanes = hn::Lanes(d);
  if constexpr (kDType == DType::kBf16) {
    const auto bits = hn::LoadU(du, reinterpret_cast<const uint32_t*>(from));
    a = hn::BitCast(d, hn::ShiftLeft<16>(bits));
    b = hn::BitCast(d, hn::And(bits, hn::Set(du, 0xffff0000U)));
  } else if constexpr (kDType == DType::kF16) {
    const auto* half = reinterpret_cast<const uint16_t*>(from);
    a = WidenF16(hn::PromoteTo(du, hn::LoadU(HalfU16(), half)));
    b = WidenF16(hn::PromoteTo(du, hn::LoadU(HalfU16(), half + lanes)));
  } else {
    const auto* full = reinterpret_cast<const float*>(from);
    a = hn::LoadU(d, full);
    b = hn::LoadU(d, full + lanes);
  }
}

// 2 * Lanes(F32()) floats in their own order, to and from LoadPair's.
template <DType kDType>
HWY_INLINE void SplitPair(const float* from, VF& a, VF& b) {
  const F32 d;
  if constexpr (kDType == DType::kBf16) {
    hn::LoadInterleaved2(d, from, a, b);
  } else {
    a = hn::LoadU(d, from);
    b = hn::LoadU(d, from + hn::Lanes(d));
  }
}
template <DType kDType>
HWY_INLINE void JoinPair(VF a, VF b, float* to) {
  const F32 d;
  if constexpr (kDType == DType::kBf16) {
    hn::StoreInterleaved2(a, b, d, to);
  } else {
    hn::StoreU(a, d, to);
    hn::StoreU(b, d, to + hn::Lanes(d));
  }
}

}  // namespace passband::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
