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

// x = n + f: 2^f by a quartic (relative error 3e-6, evenly spread), with n added to
// its exponent.
template <bool kClamp>
HWY_INLINE VF Weigh(const Weigher& w, VF logit) {
  const F32 d;
  const U32 du;
  if constexpr (kClamp) logit = hn::Max(logit, w.least);
  const VF shifted = hn::MulAdd(logit, w.scale, w.magic);
  const VF f = hn::MulSub(logit, w.scale, hn::Sub(shifted, w.magic));
  VF p = hn::Set(d, 0.00957010221F);
  p = hn::MulAdd(p, f, hn::Set(d, 0.0559178591F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.240247443F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.693121791F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.999999285F));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(du, shifted));
  return hn::BitCast(d, hn::Add(hn::BitCast(du, p), exponent));
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

constexpr size_t kTileTokens = TileTokens(SliceEncoding::kInt2);

// Products of two vectors of tokens, 16 tokens apart, as floats.
HWY_INLINE void LoadProducts(const uint16_t* products, VF& first, VF& second) {
  const F32 d;
  const U32 du;
  const I32 di;
  const auto pair = hn::LoadU(du, reinterpret_cast<const uint32_t*>(products));
  first = hn::ConvertTo(d, hn::BitCast(di, hn::And(pair, hn::Set(du, 0xffff))));
  second = hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<16>(pair)));
}

void ProductLogitsTarget(const uint16_t* products, size_t count, float* logits) {
  const F32 d;
  for (size_t tile = 0; tile < count; tile += kTileTokens) {
    for (size_t i = 0; i < kTileTokens / 2; i += hn::Lanes(d)) {
      VF a;
      VF b;
      LoadProducts(products + tile + 2 * i, a, b);
      hn::StoreU(a, d, logits + tile + i);
      hn::StoreU(b, d, logits + tile + i + kTileTokens / 2);
    }
  }
}

// Weighs a tile and adds its weights to the sums.
HWY_INLINE void WeighTile(const Weigher& w, const uint16_t* products, float* weights, VF& sum,
                          VF& other_sum) {
  const F32 d;
  for (size_t i = 0; i < kTileTokens / 2; i += hn::Lanes(d)) {
    VF a;
    VF b;
    LoadProducts(products + 2 * i, a, b);
    a = Weigh<false>(w, a);
    b = Weigh<false>(w, b);
    hn::StoreU(a, d, weights + i);
    hn::StoreU(b, d, weights + i + kTileTokens / 2);
    sum = hn::Add(sum, a);
    other_sum = hn::Add(other_sum, b);
  }
}

RunSum ProductWeightsTarget(const uint16_t* products, size_t count, const LogitRange& range,
                            float* weights) {
  const F32 d;
  const float exponent = (range.most / 2 * range.log2_scale + kRoundMagic) - kRoundMagic;
  const Weigher w = MakeWeigher(range.log2_scale, exponent, 0);
  VF sum = hn::Zero(d);
  VF other_sum = hn::Zero(d);
  size_t tile = 0;
  for (; tile + kTileTokens <= count; tile += kTileTokens) {
    WeighTile(w, products + tile, weights + tile, sum, other_sum);
  }
  if (tile < count) {
    VF unused = sum;
    VF also_unused = sum;
    WeighTile(w, products + tile, weights + tile, unused, also_unused);
    for (size_t i = tile; i < count; i += hn::Lanes(d)) {
      const auto mask = hn::FirstN(d, count - i);
      sum = hn::Add(sum, hn::IfThenElseZero(mask, hn::LoadU(d, weights + i)));
    }
  }
  return {exponent, hn::GetLane(hn::SumOfLanes(d, hn::Add(sum, other_sum)))};
}

// Scores of one vector of tokens, from kHeads heads on.
template <size_t kHeads>
HWY_INLINE VF AddHeads(const float* weights, const float* factors, VF score) {
  const F32 d;
#pragma GCC unroll 4
  for (size_t h = 0; h < kHeads; ++h) {
    score = hn::MulAdd(hn::LoadU(d, weights + h * kRunTokens), hn::Set(d, factors[h]), score);
  }
  return score;
}

// The weights of a run are padded, so whole vectors can be read.
void CombineHeadsTarget(const float* weights, const float* factors, size_t heads, size_t count,
                        float* scores) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  for (size_t i = 0; i < count; i += lanes) {
    VF score = hn::Zero(d);
    size_t h = 0;
    for (; h + 4 <= heads; h += 4) {
      score = AddHeads<4>(weights + h * kRunTokens + i, factors + h, score);
    }
    for (; h < heads; ++h) {
      score = AddHeads<1>(weights + h * kRunTokens + i, factors + h, score);
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
HWY_EXPORT(RunWeightsTarget);
HWY_EXPORT(ProductLogitsTarget);
HWY_EXPORT(ProductWeightsTarget);
HWY_EXPORT(CombineHeadsTarget);
}  // namespace

RunSum RunWeights(const float* logits, size_t count, const LogitRange& range, float* weights) {
  return HWY_DYNAMIC_DISPATCH(RunWeightsTarget)(logits, count, range, weights);
}

void ProductLogits(const uint16_t* products, size_t count, float* logits) {
  HWY_DYNAMIC_DISPATCH(ProductLogitsTarget)(products, count, logits);
}

RunSum ProductWeights(const uint16_t* products, size_t count, const LogitRange& range,
                      float* weights) {
  return HWY_DYNAMIC_DISPATCH(ProductWeightsTarget)(products, count, range, weights);
}

void CombineHeads(const float* weights, const float* factors, size_t heads, size_t count,
                  float* scores) {
  HWY_DYNAMIC_DISPATCH(CombineHeadsTarget)(weights, factors, heads, count, scores);
}

}  // namespace passband::kernels
#endif  // HWY_ONCE
