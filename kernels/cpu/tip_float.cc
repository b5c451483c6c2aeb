#include "kernels/cpu/tip_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tip_float.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace passband::kernels::HWY_NAMESPACE {

// A byte of e4m3fn in the low bits of each lane, to float.
HWY_INLINE VF WidenFp8(hn::Vec<U32> byte) {
  const F32 d;
  const U32 du;
  const auto magnitude = hn::And(byte, hn::Set(du, 0x7f));
  const auto sign = hn::ShiftLeft<24>(hn::And(byte, hn::Set(du, 0x80)));
  const VF scaled = hn::Mul(hn::BitCast(d, hn::ShiftLeft<20>(magnitude)), hn::Set(d, 0x1p120F));
  const auto nan =
      hn::IfThenElseZero(hn::Eq(magnitude, hn::Set(du, 0x7f)), hn::Set(du, 0x7fc00000));
  return hn::BitCast(d, hn::Or(hn::Or(hn::BitCast(du, scaled), sign), nan));
}

// Component kPart of a word of the lanes' even and odd tokens.
template <SliceEncoding kEncoding, int kPart>
HWY_INLINE void Decode(hn::Vec<U32> words, VF& even, VF& odd) {
  const F32 d;
  const U32 du;
  if constexpr (kEncoding == SliceEncoding::kBf16) {
    even = hn::BitCast(d, hn::ShiftLeft<16>(words));
    odd = hn::BitCast(d, hn::And(words, hn::Set(du, 0xffff0000U)));
  } else {
    even = WidenFp8(hn::ShiftRight<8 * kPart>(words));
    odd = WidenFp8(hn::ShiftRight<16 + 8 * kPart>(words));
  }
}

template <SliceEncoding kEncoding, int kPart, size_t kHeads>
HWY_INLINE void AddComponent(hn::Vec<U32> words, const float* query, VF (&even)[kHeads],
                             VF (&odd)[kHeads]) {
  const F32 d;
  VF a;
  VF b;
  Decode<kEncoding, kPart>(words, a, b);
#pragma GCC unroll 4
  for (size_t h = 0; h < kHeads; ++h) {
    const VF q = hn::Set(d, query[h]);
    even[h] = hn::MulAdd(a, q, even[h]);
    odd[h] = hn::MulAdd(b, q, odd[h]);
  }
}

HWY_INLINE VF ClampLogit(VF logit) {
  const F32 d;
  const VF most = hn::Set(d, kMaxLog2);
  const VF number = hn::IfThenElse(hn::Eq(logit, logit), logit, hn::Neg(most));
  return hn::Min(hn::Max(number, hn::Neg(most)), most);
}

template <SliceEncoding kEncoding, size_t kHeads>
HWY_INLINE void ScoreTile(const TileWord* tile, size_t components, const float* query,
                          float* logits) {
  const F32 d;
  const U32 du;
  const size_t lanes16 = hn::Lanes(U16());
  constexpr size_t kPerWord = kEncoding == SliceEncoding::kBf16 ? 1 : 2;
  for (size_t lane = 0; lane < TileTokens(kEncoding); lane += lanes16) {
    VF even[kHeads];
    VF odd[kHeads];
#pragma GCC unroll 4
    for (size_t h = 0; h < kHeads; ++h) even[h] = odd[h] = hn::Zero(d);
    for (size_t j = 0; j < components; j += kPerWord) {
      const auto words = hn::BitCast(du, hn::Load(U16(), tile[j / kPerWord].lane + lane));
      AddComponent<kEncoding, 0, kHeads>(words, query + j * kHeads, even, odd);
      if constexpr (kPerWord == 2) {
        AddComponent<kEncoding, 1, kHeads>(words, query + (j + 1) * kHeads, even, odd);
      }
    }
#pragma GCC unroll 4
    for (size_t h = 0; h < kHeads; ++h) {
      float* to = logits + h * kRunTokens + lane / 2;
      hn::StoreU(ClampLogit(even[h]), d, to);
      hn::StoreU(ClampLogit(odd[h]), d, to + TileTokens(kEncoding) / 2);
    }
  }
}

template <SliceEncoding kEncoding, size_t kHeads>
void ScoreRun(const RunTiles& run, size_t components, const float* query, float* logits) {
  for (size_t tile = 0; tile < run.count; ++tile) {
    PrefetchTile(run.ahead + tile * run.words, run.words);
    ScoreTile<kEncoding, kHeads>(run.tiles + tile * run.words, components, query,
                                 logits + tile * TileTokens(kEncoding));
  }
}

template <SliceEncoding kEncoding>
void ScoreHeads(const RunTiles& run, size_t components, const FloatQuery& q, float* logits) {
  switch (q.heads) {
    case 1:
      return ScoreRun<kEncoding, 1>(run, components, q.query, logits);
    case 2:
      return ScoreRun<kEncoding, 2>(run, components, q.query, logits);
    case 3:
      return ScoreRun<kEncoding, 3>(run, components, q.query, logits);
    default:
      return ScoreRun<kEncoding, 4>(run, components, q.query, logits);
  }
}

void FloatLogitsTarget(SliceEncoding encoding, const RunTiles& run, size_t components,
                       const FloatQuery& query, float* logits) {
  if (encoding == SliceEncoding::kBf16) {
    ScoreHeads<SliceEncoding::kBf16>(run, components, query, logits);
  } else {
    ScoreHeads<SliceEncoding::kFp8>(run, components, query, logits);
  }
}

}  // namespace passband::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace passband::kernels {
namespace {
HWY_EXPORT(FloatLogitsTarget);
}  // namespace

void FloatLogits(SliceEncoding encoding, const RunTiles& run, size_t components,
                 const FloatQuery& query, float* logits) {
  HWY_DYNAMIC_DISPATCH(FloatLogitsTarget)(encoding, run, components, query, logits);
}

}  // namespace passband::kernels
#endif  // HWY_ONCE
