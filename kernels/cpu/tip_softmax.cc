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

// The constants of one block's 2^(logit * scale - exponent).
struct Weigher {
  VF scale;
  VF magic;  // less the exponent, which rounding to an integer then takes off
  VF least;  // logits below this count as this
};

template <bool kClamp>
HWY_INLINE VF Weigh(const Weigher& w, VF logit) {
  if constexpr (kClamp) logit = hn::Max(logit, w.least);
  const VF shifted = hn::MulAdd(logit, w.scale, w.magic);
  const VF n = hn::Sub(shifted, w.magic);
  return Exp2Parts(hn::MulSub(logit, w.scale, n), shifted);
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
  const F32 d;
  const bool narrow = range.most > 0 && range.most * range.log2_scale <= kNarrowLog2;
  const float centre = narrow ? range.most / 2 : LargestLogit(logits, count);
  // Subtracting an integer from the magic is exact.
  const float exponent = (centre * range.log2_scale + kRoundMagic) - kRoundMagic;
  const Weigher w = {hn::Set(d, range.log2_scale), hn::Set(d, kRoundMagic - exponent),
                     hn::Set(d, centre - 120.0F / range.log2_scale)};
  const float sum = narrow ? WeighAll<false>(w, logits, count, weights)
                           : WeighAll<true>(w, logits, count, weights);
  return {exponent, sum};
}

void CombineHeadsTarget(const float* weights, const float* factors, size_t heads, size_t count,
                        float* scores) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    VF score = hn::Zero(d);
    for (size_t h = 0; h < heads; ++h) {
      score =
          hn::MulAdd(hn::LoadU(d, weights + h * kBlockTokens + i), hn::Set(d, factors[h]), score);
    }
    hn::StoreU(score, d, scores + i);
  }
  for (; i < count; ++i) {
    VF score = hn::Zero(d);
    for (size_t h = 0; h < heads; ++h) {
      score = hn::MulAdd(hn::Set(d, weights[h * kBlockTokens + i]), hn::Set(d, factors[h]), score);
    }
    scores[i] = hn::GetLane(score);
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
