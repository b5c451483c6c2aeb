#include "profile/score_scan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "profile/score_scan.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace passband {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::ScalableTag<float>;

float AddScaledPairSimd(const float* base, float a, const float* x, float b, const float* y,
                        size_t count, float* out) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  const auto va = hn::Set(d, a);
  const auto vb = hn::Set(d, b);
  auto largest = hn::Set(d, -3.0e38F);
  size_t t = 0;
  for (; t + lanes <= count; t += lanes) {
    const auto sum = hn::MulAdd(vb, hn::LoadU(d, y + t),
                                hn::MulAdd(va, hn::LoadU(d, x + t), hn::LoadU(d, base + t)));
    hn::StoreU(sum, d, out + t);
    largest = hn::Max(largest, sum);
  }
  float result = hn::GetLane(hn::MaxOfLanes(d, largest));
  for (; t < count; ++t) {
    out[t] = base[t] + a * x[t] + b * y[t];
    result = out[t] > result ? out[t] : result;
  }
  return result;
}

// exp(x) for x <= 0: 2^n times a cubic in the fraction.
template <class V>
HWY_INLINE V FastExp(Floats d, V x) {
  const hn::RebindToSigned<Floats> di;
  const auto scaled = hn::Max(hn::Mul(x, hn::Set(d, 1.442695041F)), hn::Set(d, -126.0F));
  const auto whole = hn::Floor(scaled);
  const auto fraction = hn::Sub(scaled, whole);
  auto power = hn::MulAdd(fraction, hn::Set(d, 0.0134857F), hn::Set(d, 0.0520242F));
  power = hn::MulAdd(fraction, power, hn::Set(d, 0.2413793F));
  power = hn::MulAdd(fraction, power, hn::Set(d, 0.6931370F));
  power = hn::MulAdd(fraction, power, hn::Set(d, 0.9999998F));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, whole), hn::Set(di, 127)));
  return hn::Mul(power, hn::BitCast(d, exponent));
}

float ExponentialSumSimd(float largest, size_t count, float* values) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  const auto shift = hn::Set(d, largest);
  auto sum = hn::Zero(d);
  size_t t = 0;
  for (; t + lanes <= count; t += lanes) {
    const auto e = FastExp(d, hn::Sub(hn::LoadU(d, values + t), shift));
    hn::StoreU(e, d, values + t);
    sum = hn::Add(sum, e);
  }
  float result = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; t < count; ++t) {
    values[t] = hn::GetLane(FastExp(d, hn::Set(d, values[t] - largest)));
    result += values[t];
  }
  return result;
}

void AddScaledSimd(const float* values, float weight, size_t count, float* sum) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  const auto w = hn::Set(d, weight);
  size_t t = 0;
  for (; t + lanes <= count; t += lanes) {
    hn::StoreU(hn::MulAdd(w, hn::LoadU(d, values + t), hn::LoadU(d, sum + t)), d, sum + t);
  }
  for (; t < count; ++t) sum[t] += weight * values[t];
}

}  // namespace HWY_NAMESPACE
}  // namespace passband
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace passband {

HWY_EXPORT(AddScaledPairSimd);
HWY_EXPORT(ExponentialSumSimd);
HWY_EXPORT(AddScaledSimd);

float AddScaledPair(const float* base, float a, const float* x, float b, const float* y,
                    size_t count, float* out) {
  return HWY_DYNAMIC_DISPATCH(AddScaledPairSimd)(base, a, x, b, y, count, out);
}

float ExponentialSum(float largest, size_t count, float* values) {
  return HWY_DYNAMIC_DISPATCH(ExponentialSumSimd)(largest, count, values);
}

void AddScaled(const float* values, float weight, size_t count, float* sum) {
  HWY_DYNAMIC_DISPATCH(AddScaledSimd)(values, weight, count, sum);
}

}  // namespace passband
#endif  // HWY_ONCE
