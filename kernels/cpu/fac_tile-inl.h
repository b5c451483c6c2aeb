// One tile of attention: 32 rows, up to four query heads. First all scores (K is
// read once for the four), then a step of the online softmax, then all weighted
// sums (V is read once). Included once per target.
#include <hwy/highway.h>

#include <cstddef>
#include <limits>

#include "kernels/cpu/simd-inl.h"
#include "kernels/types.h"

#ifndef PASSBAND_KERNELS_CPU_FAC_TILE_ONCE_
#define PASSBAND_KERNELS_CPU_FAC_TILE_ONCE_
namespace passband::kernels {

inline constexpr size_t kFacTile = 32;
// Rows from prefetch to use: 2 us of work for a stream out of memory; for chosen rows
// less, since the few there are would all wait for the first to be asked for.
inline constexpr size_t kFacStreamAhead = 64;
inline constexpr size_t kFacChosenAhead = 16;
inline constexpr size_t kFacHeads = 4;      // query heads that share a load
inline constexpr size_t kFacDimBlock = 16;  // dims are padded to a multiple of this

// The K and V of one tile.
struct FacTileRows {
  const std::byte* key[kFacTile];
  const std::byte* value[kFacTile];
  const std::byte* ahead[kFacTile];  // keys of a later tile, to prefetch; values follow them
  size_t count = 0;
  size_t key_bytes = 0;
};

// Into the L2 cache: a tile and what is to follow it are more than L1 holds, and
// to wait for memory L1 has too few slots (full attention takes twice as long).
// Always inlined: GCC takes a function that only prefetches for one without effect.
HWY_INLINE void PrefetchToL2(const std::byte* from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + at, 0, 2);
}

}  // namespace passband::kernels
#endif  // PASSBAND_KERNELS_CPU_FAC_TILE_ONCE_

#if defined(PASSBAND_KERNELS_CPU_FAC_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PASSBAND_KERNELS_CPU_FAC_TILE_INL_H_
#undef PASSBAND_KERNELS_CPU_FAC_TILE_INL_H_
#else
#define PASSBAND_KERNELS_CPU_FAC_TILE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace passband::kernels::HWY_NAMESPACE {

// Queries, weighted sums and softmax of up to kFacHeads heads, in the element
// order of LoadPair.
struct alignas(64) FacHeads {
  float query[kFacHeads][kMaxHeadDim];
  float sum[kFacHeads][kMaxHeadDim];
  float largest[kFacHeads];  // running maximum of the scores, in log2
  float total[kFacHeads];    // running sum of the weights
  float rescale[kFacHeads];  // for what `sum` held before this tile
  // This tile's scores, then weights, [row][head].
  alignas(32) float weight[kFacTile][kFacHeads];
};

// Lane sums of four vectors, as four floats.
HWY_INLINE void StoreLaneSums(VF a, VF b, VF c, VF e, float* out) {
  const F32 d;
  const hn::Repartition<double, F32> dd;
  const VF ab = hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
  const VF ce = hn::Add(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e));
  const auto ab2 = hn::BitCast(dd, ab);
  const auto ce2 = hn::BitCast(dd, ce);
  const VF sums = hn::Add(hn::BitCast(d, hn::InterleaveLower(dd, ab2, ce2)),
                          hn::BitCast(d, hn::InterleaveUpper(dd, ab2, ce2)));
  const hn::CappedTag<float, 4> d4;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  const hn::Half<F32> dh;
  hn::Store(hn::Add(hn::LowerHalf(dh, sums), hn::UpperHalf(dh, sums)), d4, out);
#else
  hn::Store(sums, d4, out);
#endif
}

// Scores of kRows rows from `row` on.
template <DType kDType, size_t kHeads, size_t kRows>
HWY_INLINE void ScoreRows(const FacTileRows& rows, size_t row, size_t dims, FacHeads& heads) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  VF sum[kRows][kFacHeads];
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t h = 0; h < kFacHeads; ++h) sum[r][h] = hn::Zero(d);
  }
  for (size_t i = 0; i < dims; i += 2 * lanes) {
    VF a[kRows];
    VF b[kRows];
#pragma GCC unroll 2
    for (size_t r = 0; r < kRows; ++r) {
      LoadPair<kDType>(rows.key[row + r] + i * DTypeBytes(kDType), a[r], b[r]);
    }
#pragma GCC unroll 4
    for (size_t h = 0; h < kHeads; ++h) {
      const VF qa = hn::Load(d, heads.query[h] + i);
#pragma GCC unroll 2
      for (size_t r = 0; r < kRows; ++r) sum[r][h] = hn::MulAdd(a[r], qa, sum[r][h]);
    }
#pragma GCC unroll 4
    for (size_t h = 0; h < kHeads; ++h) {
      const VF qb = hn::Load(d, heads.query[h] + i + lanes);
#pragma GCC unroll 2
      for (size_t r = 0; r < kRows; ++r) sum[r][h] = hn::MulAdd(b[r], qb, sum[r][h]);
    }
  }
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
    StoreLaneSums(sum[r][0], sum[r][1], sum[r][2], sum[r][3], heads.weight[row + r]);
  }
}

template <DType kDType, size_t kHeads>
HWY_INLINE void ScoreTile(const FacTileRows& rows, size_t dims, FacHeads& heads) {
  size_t row = 0;
  for (; row + 2 <= rows.count; row += 2) {
    PrefetchToL2(rows.ahead[row], rows.key_bytes);
    PrefetchToL2(rows.ahead[row + 1], rows.key_bytes);
    ScoreRows<kDType, kHeads, 2>(rows, row, dims, heads);
  }
  if (row < rows.count) ScoreRows<kDType, kHeads, 1>(rows, row, dims, heads);
}

// Scores to weights relative to the new running maximum.
void SoftmaxTile(size_t count, FacHeads& heads) {
  const hn::CappedTag<float, 4> d4;
  // Keeps the difference of two overflowed scores from being NaN.
  const auto most = hn::Set(d4, std::numeric_limits<float>::max());
  const auto old_largest = hn::Load(d4, heads.largest);
  auto largest = old_largest;
  for (size_t i = 0; i < count; ++i) {
    const auto score = hn::Max(hn::Min(hn::Load(d4, heads.weight[i]), most), hn::Neg(most));
    hn::Store(score, d4, heads.weight[i]);
    largest = hn::Max(largest, score);
  }
  hn::Store(largest, d4, heads.largest);

  const F32 d;
  const size_t rows_per_vector = hn::Lanes(d) / kFacHeads;
  alignas(32) float twice[2 * kFacHeads];
  hn::Store(largest, d4, twice);
  hn::Store(largest, d4, twice + kFacHeads);
  const VF base = hn::Load(d, twice);
  VF total = hn::Zero(d);
  // A padding row has the lowest score there is.
  for (size_t i = count; i % rows_per_vector != 0; ++i) {
    hn::Store(hn::Neg(most), d4, heads.weight[i]);
  }
  for (size_t i = 0; i < count; i += rows_per_vector) {
    const VF weight = Exp2NonPositive(hn::Sub(hn::Load(d, heads.weight[i]), base));
    hn::Store(weight, d, heads.weight[i]);
    total = hn::Add(total, weight);
  }
  alignas(32) float totals[2 * kFacHeads] = {};
  hn::Store(total, d, totals);
  hn::Store(old_largest, d4, twice);
  const VF rescale = Exp2NonPositive(hn::Sub(hn::Load(d, twice), base));
  alignas(32) float rescales[2 * kFacHeads] = {};
  hn::Store(rescale, d, rescales);
  for (size_t h = 0; h < kFacHeads; ++h) {
    heads.rescale[h] = rescales[h];
    heads.total[h] = heads.total[h] * rescales[h] + totals[h] + totals[h + kFacHeads];
  }
}

template <DType kDType, size_t kHeads>
HWY_INLINE void AddValues(const FacTileRows& rows, size_t dims, FacHeads& heads) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  for (size_t i = 0; i < dims; i += 2 * lanes) {
    const bool prefetch = i * DTypeBytes(kDType) % 64 == 0;
    VF a[kHeads];
    VF b[kHeads];
#pragma GCC unroll 4
    for (size_t h = 0; h < kHeads; ++h) {
      const VF rescale = hn::Set(d, heads.rescale[h]);
      a[h] = hn::Mul(hn::Load(d, heads.sum[h] + i), rescale);
      b[h] = hn::Mul(hn::Load(d, heads.sum[h] + i + lanes), rescale);
    }
    for (size_t r = 0; r < rows.count; ++r) {
      VF va;
      VF vb;
      LoadPair<kDType>(rows.value[r] + i * DTypeBytes(kDType), va, vb);
      if (prefetch) PrefetchToL2(rows.ahead[r] + rows.key_bytes + i * DTypeBytes(kDType), 1);
#pragma GCC unroll 4
      for (size_t h = 0; h < kHeads; ++h) {
        const VF weight = hn::Set(d, heads.weight[r][h]);
        a[h] = hn::MulAdd(va, weight, a[h]);
        b[h] = hn::MulAdd(vb, weight, b[h]);
      }
    }
#pragma GCC unroll 4
    for (size_t h = 0; h < kHeads; ++h) {
      hn::Store(a[h], d, heads.sum[h] + i);
      hn::Store(b[h], d, heads.sum[h] + i + lanes);
    }
  }
}

// Up to kFacHeads heads at a time over one tile; `weights` (may be null) gets
// the scores of head h at weights[h * stride].
template <DType kDType, size_t kHeads>
void RunTile(const FacTileRows& rows, size_t dims, FacHeads& heads, float* weights, size_t stride) {
  ScoreTile<kDType, kHeads>(rows, dims, heads);
  if (weights != nullptr) {
    for (size_t r = 0; r < rows.count; ++r) {
      for (size_t h = 0; h < kHeads; ++h) weights[h * stride + r] = heads.weight[r][h];
    }
  }
  SoftmaxTile(rows.count, heads);
  AddValues<kDType, kHeads>(rows, dims, heads);
}

}  // namespace passband::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
