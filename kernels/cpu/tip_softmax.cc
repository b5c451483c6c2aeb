#include "kernels/cpu/tip_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tip_softmax.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace passband::kernels::HWY_NAMESPACE {

// Largest of logits[0, count), count > 0.
float LargestLogit(const float* logits, size_t count) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  const VF first = hn::Set(d, logits[0]);
  VF most[4] = {first, first, first, first};
  size_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
#pragma GCC unroll 4
    for (size_t k = 0; k < 4; ++k) {
      most[k] = hn::Max(most[k], hn::LoadU(d, logits + i + k * lanes));
    }
  }
  for (; i + lanes <= count; i += lanes) most[0] = hn::Max(most[0], hn::LoadU(d, logits + i));
  VF all = hn::Max(hn::Max(most[0], most[1]), hn::Max(most[2], most[3]));
  if (i < count) {
    const auto mask = hn::FirstN(d, count - i);
    all = hn::Max(all, hn::IfThenElse(mask, hn::LoadU(d, logits + i), first));
  }
  return hn::GetLane(hn::MaxOfLanes(d, all));
}

// Adding it rounds to quarters, which end up in the two lowest bits.
constexpr float kQuarterMagic = 3145728.0F;  // 1.5 * 2^21

// The constants of one block's 2^(logit * scale - exponent).
struct Weigher {
  VF scale;
  VF magic;               // less the exponent, which rounding then takes off
  VF least;               // logits below this count as this
  hn::Vec<U32> quarters;  // bits of 2^(k/4) less k << 21, for k = lane % 4
};

Weigher MakeWeigher(float log2_scale, float exponent, float least) {
  const F32 d;
  alignas(32) const uint32_t bits[8] = {0x3f800000, 0x3f7837f0, 0x3f7504f3, 0x3f7744fd,
                                        0x3f800000, 0x3f7837f0, 0x3f7504f3, 0x3f7744fd};
  // Subtracting an integer from the magic is exact.
  return {hn::Set(d, log2_scale), hn::Set(d, kQuarterMagic - exponent), hn::Set(d, least),
          hn::Load(U32(), bits)};
}

// x = n/4 + f: 2^f by a cubic (relative error 3e-7), times 2^(n/4) out of the
// table, with n / 4 (rounded down) added to its exponent.
template <bool kClamp>
HWY_INLINE VF Weigh(const Weigher& w, VF logit) {
  const F32 d;
  const U32 du;
  if constexpr (kClamp) logit = hn::Max(logit, w.least);
  const VF shifted = hn::MulAdd(logit, w.scale, w.magic);
  const VF f = hn::MulSub(logit, w.scale, hn::Sub(shifted, w.magic));
  VF p = hn::Set(d, 0.0554832779F);
  p = hn::MulAdd(p, f, hn::Set(d, 0.240376711F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.6931476F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.999999702F));
  const auto n = hn::BitCast(du, shifted);
  const auto index = hn::IndicesFromVec(du, hn::And(n, hn::Set(du, 3)));
  const auto power = hn::Add(hn::TableLookupLanes(w.quarters, index), hn::ShiftLeft<21>(n));
  return hn::Mul(p, hn::BitCast(d, power));
}

// Returns the weights' sum.
template <bool kClamp>
HWY_INLINE float WeighAll(const Weigher& w, const float* logits, size_t count, float* weights) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  VF sum = hn::Zero(d);
  VF other_sum = hn::Zero(d);
  size_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    const VF a = Weigh<kClamp>(w, hn::LoadU(d, logits + i));
    const VF b = Weigh<kClamp>(w, hn::LoadU(d, logits + i + lanes));
    hn::StoreU(a, d, weights + i);
    hn::StoreU(b, d, weights + i + lanes);
    sum = hn::Add(sum, a);
    other_sum = hn::Add(other_sum, b);
  }
  for (; i < count; i += lanes) {
    const auto mask = hn::FirstN(d, count - i);
    const VF a = hn::IfThenElseZero(mask, Weigh<kClamp>(w, hn::LoadU(d, logits + i)));
    hn::StoreU(a, d, weights + i);
    sum = hn::Add(sum, a);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(sum, other_sum)));
}

BlockSum BlockWeightsTarget(const float* logits, size_t count, const LogitRange& range,
                            float* weights) {
  const bool narrow = range.most > 0 && range.most * range.log2_scale <= kNarrowLog2;
  const float centre = narrow ? range.most / 2 : LargestLogit(logits, count);
  const float exponent = (centre * range.log2_scale + kRoundMagic) - kRoundMagic;
  const Weigher w = MakeWeigher(range.log2_scale, exponent, centre - 120.0F / range.log2_scale);
  const float sum = narrow ? WeighAll<false>(w, logits, count, weights)
                           : WeighAll<true>(w, logits, count, weights);
  return {exponent, sum};
}

// Scores of one vector of tokens, from kHeads heads on.
template <size_t kHeads>
HWY_INLINE VF AddHeads(const float* weights, const float* factors, VF score) {
  const F32 d;
#pragma GCC unroll 4
  for (size_t h = 0; h < kHeads; ++h) {
    score = hn::MulAdd(hn::LoadU(d, weights + h * kBlockTokens), hn::Set(d, factors[h]), score);
  }
  return score;
}

// The weights of a block are padded, so whole vectors can be read.
void CombineHeadsTarget(const float* weights, const float* factors, size_t heads, size_t count,
                        float* scores) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  for (size_t i = 0; i < count; i += lanes) {
    VF score = hn::Zero(d);
    size_t h = 0;
    for (; h + 4 <= heads; h += 4) {
      score = AddHeads<4>(weights + h * kBlockTokens + i, factors + h, score);
    }
    for (; h < heads; ++h) {
      score = AddHeads<1>(weights + h * kBlockTokens + i, factors + h, score);
    }
    if (i + lanes <= count) {
      hn::StoreU(score, d, scores + i);
    } else {
      hn::BlendedStore(score, hn::FirstN(d, count - i), d, scores + i);
    }
  }
}

}  // namespace passband::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace passband::kernels {
namespace {
HWY_EXPORT(BlockWeightsTarget);
HWY_EXPORT(CombineHeadsTarget);
}  // namespace

BlockSum BlockWeights(const float* logits, size_t count, const LogitRange& range, float* weights) {
  return HWY_DYNAMIC_DISPATCH(BlockWeightsTarget)(logits, count, range, weights);
}

void CombineHeads(const float* weights, const float* factors, size_t heads, size_t count,
                  float* scores) {
  HWY_DYNAMIC_DISPATCH(CombineHeadsTarget)(weights, factors, heads, count, scores);
}

}  // namespace passband::kernels
#endif  // HWY_ONCE
