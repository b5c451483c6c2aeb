#include "llama/softmax_tile.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "llama/softmax_tile.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After highway.h: the functions below exist once per target.
#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace passband::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

float LargestOf(const float* scores, size_t count) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  auto largest = hn::Set(d, -3.0e38F);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) largest = hn::Max(largest, hn::LoadU(d, scores + i));
  float out = hn::GetLane(hn::MaxOfLanes(d, largest));
  for (; i < count; ++i) out = std::max(out, scores[i]);
  return out;
}

// scores = exp(scale * scores - largest); the sum of them.
float ExpAll(float* scores, size_t count, float scale, float largest) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const auto factor = hn::Set(d, scale);
  const auto shift = hn::Set(d, largest);
  auto sum = hn::Zero(d);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto e = hn::Exp(d, hn::MulSub(hn::LoadU(d, scores + i), factor, shift));
    hn::StoreU(e, d, scores + i);
    sum = hn::Add(sum, e);
  }
  float out = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < count; ++i) {
    scores[i] = std::exp(scores[i] * scale - largest);
    out += scores[i];
  }
  return out;
}

void Scale(float* x, size_t count, float factor) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const auto by = hn::Set(d, factor);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), by), d, x + i);
  }
  for (; i < count; ++i) x[i] *= factor;
}

}  // namespace passband::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace passband {

HWY_EXPORT(LargestOf);
HWY_EXPORT(ExpAll);
HWY_EXPORT(Scale);

float SoftmaxStep(float* scores, size_t valid, size_t width, float scale, RunningSoftmax& state) {
  std::fill(scores + valid, scores + width, 0.0F);
  if (valid == 0) return 1.0F;
  const float tile = scale * HWY_DYNAMIC_DISPATCH(LargestOf)(scores, valid);
  const float largest = std::max(state.largest, tile);
  const float correction = std::exp(state.largest - largest);
  state.largest = largest;
  state.sum = state.sum * correction + HWY_DYNAMIC_DISPATCH(ExpAll)(scores, valid, scale, largest);
  return correction;
}

void ScaleRow(float* x, size_t count, float factor) {
  if (factor != 1.0F) HWY_DYNAMIC_DISPATCH(Scale)(x, count, factor);
}

}  // namespace passband
#endif  // HWY_ONCE
