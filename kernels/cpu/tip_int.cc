#include <cstring>

#include "kernels/cpu/tip_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tip_int.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace passband::kernels::HWY_NAMESPACE {

constexpr size_t kTileTokens = TileTokens(SliceEncoding::kInt4);

// Per 16 bit lane: low byte of codes (unsigned) times low byte of q (signed),
// plus the same of the high bytes. Codes are at most 15, so nothing saturates.
HWY_INLINE VU16 MulPairs(VU16 codes, VU16 q) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  return VU16{_mm256_maddubs_epi16(codes.raw, q.raw)};
#elif HWY_TARGET == HWY_SSSE3
  return VU16{_mm_maddubs_epi16(codes.raw, q.raw)};
#else
  const U16 d;
  const hn::RebindToSigned<U16> di;
  const auto low = hn::ShiftRight<8>(hn::BitCast(di, hn::ShiftLeft<8>(q)));
  const auto high = hn::ShiftRight<8>(hn::BitCast(di, q));
  const VU16 low_code = hn::And(codes, hn::Set(d, 0xff));
  return hn::Add(hn::Mul(low_code, hn::BitCast(d, low)),
                 hn::Mul(hn::ShiftRight<8>(codes), hn::BitCast(d, high)));
#endif
}

// Sums of one segment for kTiles tiles' lanes [lane, lane + Lanes): kSplits
// vectors of 4 bit codes a word.
template <int kSplits, size_t kHeads, size_t kTiles>
HWY_INLINE void SumSegment(const TileWord* tiles, size_t words, size_t lane, const IntQuery& query,
                           const IntSegment& segment, int first_shift,
                           VU16 (&sum)[kHeads][kTiles]) {
  const U16 d;
  const VU16 mask = hn::Set(d, 0x0f0f);
#pragma GCC unroll 4
  for (size_t h = 0; h < kHeads; ++h) {
#pragma GCC unroll 2
    for (size_t t = 0; t < kTiles; ++t) sum[h][t] = hn::Set(d, segment.offset[h]);
  }
  const TileWord* q = query.query + segment.word_begin * kSplits * kHeads;
  for (size_t w = segment.word_begin; w < segment.word_end; ++w) {
    VU16 word[kTiles];
#pragma GCC unroll 2
    for (size_t t = 0; t < kTiles; ++t) {
      word[t] = hn::Load(d, tiles[t * words + w].lane + lane);
      if (first_shift != 0) word[t] = hn::ShiftRight<4>(word[t]);
    }
#pragma GCC unroll 4
    for (int k = 0; k < kSplits; ++k, q += kHeads) {
      VU16 codes[kTiles];
#pragma GCC unroll 2
      for (size_t t = 0; t < kTiles; ++t) {
        codes[t] = hn::And(word[t], mask);
        if (k + 1 < kSplits) word[t] = hn::ShiftRight<4>(word[t]);
      }
#pragma GCC unroll 4
      for (size_t h = 0; h < kHeads; ++h) {
        const VU16 level = hn::Load(d, q[h].lane);
#pragma GCC unroll 2
        for (size_t t = 0; t < kTiles; ++t) {
          sum[h][t] = hn::Add(sum[h][t], MulPairs(codes[t], level));
        }
      }
    }
  }
}

// Writes or adds 16 bit sums, times `factor`, as floats.
HWY_INLINE void PutSums(VU16 sum, size_t lane, float factor, bool add, float* logits) {
  const F32 d;
  const U32 du;
  const I32 di;
  const auto pair = hn::BitCast(du, sum);
  VF a = hn::ConvertTo(d, hn::BitCast(di, hn::And(pair, hn::Set(du, 0xffff))));
  VF b = hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<16>(pair)));
  float* first = logits + lane / 2;
  float* second = first + kTileTokens / 2;
  if (add) {
    a = hn::MulAdd(a, hn::Set(d, factor), hn::LoadU(d, first));
    b = hn::MulAdd(b, hn::Set(d, factor), hn::LoadU(d, second));
  }
  hn::StoreU(a, d, first);
  hn::StoreU(b, d, second);
}

// Of one pass over one segment.
HWY_INLINE void PutSums(VU16 sum, size_t lane, float /*factor*/, bool /*add*/, uint16_t* products) {
  hn::StoreU(sum, U16(), products + lane);
}

// kPasses: int8 codes are scored as their low and their high four bits.
template <int kSplits, int kPasses, size_t kHeads, size_t kTiles, class Sum>
HWY_INLINE void ScoreTiles(const TileWord* tiles, size_t words, const IntQuery& query, Sum* sums) {
  const size_t lanes = hn::Lanes(U16());
  for (size_t lane = 0; lane < kTileTokens; lane += lanes) {
    for (size_t s = 0; s < query.segments; ++s) {
      for (int pass = 0; pass < kPasses; ++pass) {
        VU16 sum[kHeads][kTiles];
        SumSegment<kSplits, kHeads, kTiles>(tiles, words, lane, query, query.segment[s], pass, sum);
#pragma GCC unroll 4
        for (size_t h = 0; h < kHeads; ++h) {
#pragma GCC unroll 2
          for (size_t t = 0; t < kTiles; ++t) {
            PutSums(sum[h][t], lane, pass == 0 ? 1.0F : 16.0F, s + pass > 0,
                    sums + h * kRunTokens + t * kTileTokens);
          }
        }
      }
    }
  }
}

template <int kSplits, int kPasses, size_t kHeads, class Sum>
void ScoreRun(const RunTiles& run, const IntQuery& query, Sum* sums) {
  size_t tile = 0;
  for (; tile + 2 <= run.count; tile += 2) {
    PrefetchTile(run.ahead + tile * run.words, 2 * run.words);
    ScoreTiles<kSplits, kPasses, kHeads, 2>(run.tiles + tile * run.words, run.words, query,
                                            sums + tile * kTileTokens);
  }
  if (tile < run.count) {
    ScoreTiles<kSplits, kPasses, kHeads, 1>(run.tiles + tile * run.words, run.words, query,
                                            sums + tile * kTileTokens);
  }
}

template <int kSplits, int kPasses, class Sum>
void ScoreHeads(const RunTiles& run, const IntQuery& query, Sum* sums) {
  switch (query.heads) {
    case 1:
      return ScoreRun<kSplits, kPasses, 1>(run, query, sums);
    case 2:
      return ScoreRun<kSplits, kPasses, 2>(run, query, sums);
    case 3:
      return ScoreRun<kSplits, kPasses, 3>(run, query, sums);
    default:
      return ScoreRun<kSplits, kPasses, 4>(run, query, sums);
  }
}

void Int4ProductsTarget(const RunTiles& run, const IntQuery& query, uint16_t* products) {
  ScoreHeads<2, 1>(run, query, products);
}

void IntLogitsTarget(SliceEncoding encoding, const RunTiles& run, const IntQuery& query,
                     float* logits) {
  if (encoding == SliceEncoding::kInt4) return ScoreHeads<2, 1>(run, query, logits);
  return ScoreHeads<1, 2>(run, query, logits);
}

}  // namespace passband::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace passband::kernels {
namespace {
HWY_EXPORT(Int4ProductsTarget);
HWY_EXPORT(IntLogitsTarget);
}  // namespace

void Int4Products(const RunTiles& run, const IntQuery& query, uint16_t* products) {
  HWY_DYNAMIC_DISPATCH(Int4ProductsTarget)(run, query, products);
}

void IntLogits(SliceEncoding encoding, const RunTiles& run, const IntQuery& query, float* logits) {
  HWY_DYNAMIC_DISPATCH(IntLogitsTarget)(encoding, run, query, logits);
}

}  // namespace passband::kernels
#endif  // HWY_ONCE
