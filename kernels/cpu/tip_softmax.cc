#include <cmath>

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

// The constants of one run's 2^(logit * scale - exponent).
struct Weigher {
  VF scale;
  VF magic;  // less the exponent, which rounding then takes off
  VF least;  // logits below this count as this
};

HWY_INLINE Weigher MakeWeigher(float log2_scale, float exponent, float least) {
  const F32 d;
  // Subtracting an integer from the magic is exact.
  return {hn::Set(d, log2_scale), hn::Set(d, kRoundMagic - exponent), hn::Set(d, least)};
}

template <bool kClamp>
HWY_INLINE VF Weigh(const Weigher& w, VF logit) {
  if constexpr (kClamp) logit = hn::Max(logit, w.least);
  const VF shifted = hn::MulAdd(logit, w.scale, w.magic);
  return Exp2Parts(hn::MulSub(logit, w.scale, hn::Sub(shifted, w.magic)), shifted);
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

RunSum RunWeightsTarget(const float* logits, size_t count, const LogitRange& range,
                        float* weights) {
  const bool narrow = IsNarrow(range);
  const float centre = narrow ? range.most / 2 : LargestLogit(logits, count);
  const float exponent = (centre * range.log2_scale + kRoundMagic) - kRoundMagic;
  const Weigher w = MakeWeigher(range.log2_scale, exponent, centre - 120.0F / range.log2_scale);
  const float sum = narrow ? WeighAll<false>(w, logits, count, weights)
                           : WeighAll<true>(w, logits, count, weights);
  return {exponent, sum};
}

// Vectors that are combined side by side.
constexpr size_t kAbreast = 4;
// Both tile sizes divide it.
constexpr size_t kBlockTokens = 32;

// Products of two vectors of tokens, half a tile apart.
HWY_INLINE void LoadProducts(const uint16_t* products, hn::Vec<U32>& first, hn::Vec<U32>& second) {
  const U32 du;
  const auto pair = hn::LoadU(du, reinterpret_cast<const uint32_t*>(products));
  first = hn::And(pair, hn::Set(du, 0xffff));
  second = hn::ShiftRight<16>(pair);
}

// Where the first token is of the pair at lane `pair` of a block's products.
template <size_t kTile>
constexpr size_t FirstOfPair(size_t pair) {
  return pair / (kTile / 2) * kTile + pair % (kTile / 2);
}

template <size_t kTile>
HWY_INLINE void ConvertBlock(const uint16_t* products, float* logits) {
  const F32 d;
  const I32 di;
  for (size_t pair = 0; pair < kBlockTokens / 2; pair += hn::Lanes(d)) {
    hn::Vec<U32> first;
    hn::Vec<U32> second;
    LoadProducts(products + 2 * pair, first, second);
    float* to = logits + FirstOfPair<kTile>(pair);
    hn::StoreU(hn::ConvertTo(d, hn::BitCast(di, first)), d, to);
    hn::StoreU(hn::ConvertTo(d, hn::BitCast(di, second)), d, to + kTile / 2);
  }
}

void ProductLogitsTarget(const uint16_t* products, size_t tile_tokens, size_t count,
                         float* logits) {
  for (size_t at = 0; at < count; at += kBlockTokens) {
    if (tile_tokens == kBlockTokens) {
      ConvertBlock<kBlockTokens>(products + at, logits + at);
    } else {
      ConvertBlock<kBlockTokens / 2>(products + at, logits + at);
    }
  }
}

// The constants of 2^(product * scale - exponent) in fixed point: x = product * scale
// has 23 binary places, as the mantissa of a float, so that its fraction f, put beneath
// the exponent of 1, is the float m = 1 + f; and x added to the pattern of a float
// multiplies it by 2 to the whole part of x and adds f to its mantissa.
struct FixedWeigher {
  hn::Vec<U32> scale;
  VF power[5];
};

HWY_INLINE FixedWeigher MakeFixedWeigher(const LogitRange& range, float exponent) {
  const F32 d;
  // A quartic near 2^f - f + 1, which is within [1.9, 2]: half its pattern's exponent,
  // and f, are added with x. Relative error of 2^f: 3e-6, evenly spread.
  constexpr float kQuartic[5] = {2.509964228F, -0.68798396F, 0.166613385F, -0.00212521106F,
                                 0.0135341678F};
  FixedWeigher w;
  w.scale = hn::Set(U32(), range.fixed_scale);
  const float factor = std::ldexp(0.5F, -static_cast<int>(exponent));
  for (size_t k = 0; k < 5; ++k) w.power[k] = hn::Set(d, kQuartic[k] * factor);
  return w;
}

// Few operations, and fewer of floats: a fused one takes two of the core's four slots.
HWY_INLINE VF WeighFixed(const FixedWeigher& w, hn::Vec<U32> product) {
  const F32 d;
  const U32 du;
  const auto x = hn::Mul(product, w.scale);
  const auto fraction = hn::And(x, hn::Set(du, 0x7fffff));
  const VF m = hn::BitCast(d, hn::Or(fraction, hn::Set(du, 0x3f800000)));
  VF p = hn::MulAdd(w.power[4], m, w.power[3]);
  p = hn::MulAdd(p, m, w.power[2]);
  p = hn::MulAdd(p, m, w.power[1]);
  p = hn::MulAdd(p, m, w.power[0]);
  return hn::BitCast(d, hn::Add(hn::BitCast(du, p), x));
}

// Weighs a block and adds its weights to the sums.
template <size_t kTile>
HWY_INLINE void WeighBlock(const FixedWeigher& w, const uint16_t* products, float* weights, VF& sum,
                           VF& other_sum) {
  const F32 d;
  for (size_t pair = 0; pair < kBlockTokens / 2; pair += hn::Lanes(d)) {
    hn::Vec<U32> first;
    hn::Vec<U32> second;
    LoadProducts(products + 2 * pair, first, second);
    const VF a = WeighFixed(w, first);
    const VF b = WeighFixed(w, second);
    float* to = weights + FirstOfPair<kTile>(pair);
    hn::StoreU(a, d, to);
    hn::StoreU(b, d, to + kTile / 2);
    sum = hn::Add(sum, a);
    other_sum = hn::Add(other_sum, b);
  }
}

template <size_t kTile>
RunSum WeighProducts(const uint16_t* products, size_t count, const LogitRange& range,
                     float* weights) {
  const F32 d;
  const float exponent = (range.most / 2 * range.log2_scale + kRoundMagic) - kRoundMagic;
  const FixedWeigher w = MakeFixedWeigher(range, exponent);
  VF sum = hn::Zero(d);
  VF other_sum = hn::Zero(d);
  size_t at = 0;
  for (; at + kBlockTokens <= count; at += kBlockTokens) {
    WeighBlock<kTile>(w, products + at, weights + at, sum, other_sum);
  }
  if (at < count) {
    VF unused = sum;
    VF also_unused = sum;
    WeighBlock<kTile>(w, products + at, weights + at, unused, also_unused);
    for (size_t i = at; i < count; i += hn::Lanes(d)) {
      const auto mask = hn::FirstN(d, count - i);
      sum = hn::Add(sum, hn::IfThenElseZero(mask, hn::LoadU(d, weights + i)));
    }
  }
  return {exponent, hn::GetLane(hn::SumOfLanes(d, hn::Add(sum, other_sum)))};
}

RunSum ProductWeightsTarget(const uint16_t* products, size_t tile_tokens, size_t count,
                            const LogitRange& range, float* weights) {
  if (tile_tokens == kBlockTokens) {
    return WeighProducts<kBlockTokens>(products, count, range, weights);
  }
  return WeighProducts<kBlockTokens / 2>(products, count, range, weights);
}

// Scores of kVectors vectors of tokens. kHeads: as many heads as `heads`, or 0.
template <size_t kHeads, size_t kVectors>
HWY_INLINE void AddHeads(const float* weights, const float* factors, size_t heads,
                         VF (&score)[kVectors]) {
  const F32 d;
  const size_t count = kHeads != 0 ? kHeads : heads;
#pragma GCC unroll 4
  for (size_t k = 0; k < kVectors; ++k) score[k] = hn::Zero(d);
#pragma GCC unroll 4
  for (size_t h = 0; h < count; ++h) {
    const VF factor = hn::Set(d, factors[h]);
#pragma GCC unroll 4
    for (size_t k = 0; k < kVectors; ++k) {
      const VF weight = hn::LoadU(d, weights + h * kRunTokens + k * hn::Lanes(d));
      score[k] = hn::MulAdd(weight, factor, score[k]);
    }
  }
}

// The weights of a run are padded, so whole vectors can be read.
template <size_t kHeads>
void Combine(const float* weights, const float* factors, size_t heads, size_t count,
             float* scores) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + kAbreast * lanes <= count; i += kAbreast * lanes) {
    VF score[kAbreast];
    AddHeads<kHeads>(weights + i, factors, heads, score);
#pragma GCC unroll 4
    for (size_t k = 0; k < kAbreast; ++k) hn::StoreU(score[k], d, scores + i + k * lanes);
  }
  for (; i < count; i += lanes) {
    VF score[1];
    AddHeads<kHeads>(weights + i, factors, heads, score);
    hn::BlendedStore(score[0], hn::FirstN(d, count - i), d, scores + i);
  }
}

void CombineHeadsTarget(const float* weights, const float* factors, size_t heads, size_t count,
                        float* scores) {
  if (heads == kHeadsPerPass) {
    Combine<kHeadsPerPass>(weights, factors, heads, count, scores);
  } else {
    Combine<0>(weights, factors, heads, count, scores);
  }
}

}  // namespace passband::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace passband::kernels {
namespace {
HWY_EXPORT(RunWeightsTarget);
HWY_EXPORT(ProductLogitsTarget);
HWY_EXPORT(ProductWeightsTarget);
HWY_EXPORT(CombineHeadsTarget);
}  // namespace

RunSum RunWeights(const float* logits, size_t count, const LogitRange& range, float* weights) {
  return HWY_DYNAMIC_DISPATCH(RunWeightsTarget)(logits, count, range, weights);
}

void ProductLogits(const uint16_t* products, size_t tile_tokens, size_t count, float* logits) {
  HWY_DYNAMIC_DISPATCH(ProductLogitsTarget)(products, tile_tokens, count, logits);
}

RunSum ProductWeights(const uint16_t* products, size_t tile_tokens, size_t count,
                      const LogitRange& range, float* weights) {
  return HWY_DYNAMIC_DISPATCH(ProductWeightsTarget)(products, tile_tokens, count, range, weights);
}

void CombineHeads(const float* weights, const float* factors, size_t heads, size_t count,
                  float* scores) {
  HWY_DYNAMIC_DISPATCH(CombineHeadsTarget)(weights, factors, heads, count, scores);
}

}  // namespace passband::kernels
#endif  // HWY_ONCE
