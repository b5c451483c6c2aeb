#include "kernels/fac.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/fac.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/fac_tile-inl.h"
#include "kernels/cpu/simd-inl.h"

#ifndef PASSBAND_KERNELS_CPU_FAC_ONCE_
#define PASSBAND_KERNELS_CPU_FAC_ONCE_
namespace passband::kernels {

// Where the rows are: pointers, or one after the other from `first`.
struct FacRows {
  const std::byte* const* pointers = nullptr;
  const std::byte* first = nullptr;
  size_t count = 0;
  size_t ahead() const { return pointers != nullptr ? kFacChosenAhead : kFacStreamAhead; }
  const std::byte* at(size_t i, size_t row_bytes) const {
    return pointers != nullptr ? pointers[i] : first + i * row_bytes;
  }
};

}  // namespace passband::kernels
#endif  // PASSBAND_KERNELS_CPU_FAC_ONCE_

HWY_BEFORE_NAMESPACE();
namespace passband::kernels::HWY_NAMESPACE {

template <DType kDType>
void StartHeads(const FacParams& params, size_t first, size_t count, size_t padded_dims,
                FacHeads& heads) {
  const F32 d;
  const size_t dims = params.shape.head_dim;
  const size_t lanes = hn::Lanes(d);
  const VF scale = hn::Set(d, params.scale * std::numbers::log2e_v<float>);
  alignas(32) float padded[kMaxHeadDim] = {};
  for (size_t h = 0; h < count; ++h) {
    std::memcpy(padded, params.queries + (first + h) * dims, dims * sizeof(float));
    for (size_t i = 0; i < padded_dims; i += 2 * lanes) {
      VF a;
      VF b;
      SplitPair<kDType>(padded + i, a, b);
      hn::Store(hn::Mul(a, scale), d, heads.query[h] + i);
      hn::Store(hn::Mul(b, scale), d, heads.query[h] + i + lanes);
      hn::Store(hn::Zero(d), d, heads.sum[h] + i);
      hn::Store(hn::Zero(d), d, heads.sum[h] + i + lanes);
    }
  }
  std::fill_n(heads.largest, kFacHeads, std::numeric_limits<float>::lowest());
  std::fill_n(heads.total, kFacHeads, 0.0F);
}

// Points `tile` at rows [begin, begin + tile.count) and ahead.
void PointAtRows(const FacRows& rows, size_t begin, const HeadShape& shape, FacTileRows& tile) {
  for (size_t r = 0; r < tile.count; ++r) {
    tile.key[r] = rows.at(begin + r, shape.row_bytes());
    tile.value[r] = tile.key[r] + shape.key_bytes();
    const size_t ahead = begin + rows.ahead() + r;
    tile.ahead[r] = ahead < rows.count ? rows.at(ahead, shape.row_bytes()) : tile.key[r];
  }
}

// The same through zero-padded copies, for head dims no vector divides.
void CopyRows(const FacRows& rows, size_t begin, const HeadShape& shape, size_t padded_bytes,
              std::byte* copies, FacTileRows& tile) {
  for (size_t r = 0; r < tile.count; ++r) {
    const std::byte* row = rows.at(begin + r, shape.row_bytes());
    std::byte* copy = copies + r * 2 * padded_bytes;
    std::memcpy(copy, row, shape.key_bytes());
    std::memcpy(copy + padded_bytes, row + shape.key_bytes(), shape.key_bytes());
    tile.key[r] = tile.ahead[r] = copy;
    tile.value[r] = copy + padded_bytes;
  }
}

template <DType kDType>
void RunHeads(const FacTileRows& tile, size_t dims, size_t count, FacHeads& heads, float* weights,
              size_t stride) {
  switch (count) {
    case 1:
      return RunTile<kDType, 1>(tile, dims, heads, weights, stride);
    case 2:
      return RunTile<kDType, 2>(tile, dims, heads, weights, stride);
    case 3:
      return RunTile<kDType, 3>(tile, dims, heads, weights, stride);
    default:
      return RunTile<kDType, 4>(tile, dims, heads, weights, stride);
  }
}

template <DType kDType>
void FinishHeads(const FacParams& params, size_t first, size_t count, size_t padded_dims,
                 const FacHeads& heads, float* weights, size_t stride) {
  const F32 d;
  const size_t dims = params.shape.head_dim;
  const size_t lanes = hn::Lanes(d);
  alignas(32) float padded[kMaxHeadDim];
  for (size_t h = 0; h < count; ++h) {
    const float share = 1.0F / heads.total[h];
    const VF factor = hn::Set(d, share);
    for (size_t i = 0; i < padded_dims; i += 2 * lanes) {
      JoinPair<kDType>(hn::Mul(hn::Load(d, heads.sum[h] + i), factor),
                       hn::Mul(hn::Load(d, heads.sum[h] + i + lanes), factor), padded + i);
    }
    std::memcpy(params.out + (first + h) * dims, padded, dims * sizeof(float));
    for (size_t r = 0; weights != nullptr && r < stride; ++r) {
      float& weight = weights[h * stride + r];
      weight = std::exp2(std::clamp(weight - heads.largest[h], -126.0F, 0.0F)) * share;
    }
  }
}

template <DType kDType>
void Attend(const FacParams& params, const FacRows& rows, float* weights) {
  const size_t group = static_cast<size_t>(params.group);
  const size_t dims = (params.shape.head_dim + kFacDimBlock - 1) / kFacDimBlock * kFacDimBlock;
  const bool padded = dims != params.shape.head_dim;
  const size_t padded_bytes = dims * DTypeBytes(kDType);
  std::vector<std::byte> copies(padded ? kFacTile * 2 * padded_bytes : 0);
  FacHeads heads[kMaxGroup / kFacHeads];
  for (size_t first = 0; first < group; first += kFacHeads) {
    StartHeads<kDType>(params, first, std::min(kFacHeads, group - first), dims,
                       heads[first / kFacHeads]);
  }
  for (size_t r = 0; r < std::min(rows.ahead(), rows.count); ++r) {
    PrefetchToL2(rows.at(r, params.shape.row_bytes()), params.shape.row_bytes());
  }
  FacTileRows tile;
  tile.key_bytes = params.shape.key_bytes();
  for (size_t begin = 0; begin < rows.count; begin += kFacTile) {
    tile.count = std::min(kFacTile, rows.count - begin);
    if (padded) {
      CopyRows(rows, begin, params.shape, padded_bytes, copies.data(), tile);
    } else {
      PointAtRows(rows, begin, params.shape, tile);
    }
    for (size_t first = 0; first < group; first += kFacHeads) {
      float* scores = weights == nullptr ? nullptr : weights + first * rows.count + begin;
      RunHeads<kDType>(tile, dims, std::min(kFacHeads, group - first), heads[first / kFacHeads],
                       scores, rows.count);
    }
  }
  for (size_t first = 0; first < group; first += kFacHeads) {
    FinishHeads<kDType>(params, first, std::min(kFacHeads, group - first), dims,
                        heads[first / kFacHeads],
                        weights == nullptr ? nullptr : weights + first * rows.count, rows.count);
  }
}

void AttendTarget(const FacParams& params, const FacRows& rows, float* weights) {
  switch (params.shape.dtype) {
    case DType::kBf16:
      return Attend<DType::kBf16>(params, rows, weights);
    case DType::kF16:
      return Attend<DType::kF16>(params, rows, weights);
    case DType::kF32:
      return Attend<DType::kF32>(params, rows, weights);
  }
}

}  // namespace passband::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace passband::kernels {
namespace {

HWY_EXPORT(AttendTarget);

void AttendOver(const FacParams& params, const FacRows& rows, float* weights) {
  assert(params.group > 0 && params.group <= kMaxGroup);
  assert(params.shape.head_dim <= kMaxHeadDim);
  if (rows.count == 0) {
    std::fill_n(params.out, static_cast<size_t>(params.group) * params.shape.head_dim, 0.0F);
    return;
  }
  HWY_DYNAMIC_DISPATCH(AttendTarget)(params, rows, weights);
}

}  // namespace

void Fac(const FacParams& params, std::span<const std::byte* const> rows, float* weights) {
  AttendOver(params, {.pointers = rows.data(), .count = rows.size()}, weights);
}

void FacContiguous(const FacParams& params, const std::byte* rows, size_t tokens, float* weights) {
  AttendOver(params, {.first = rows, .count = tokens}, weights);
}

}  // namespace passband::kernels
#endif  // HWY_ONCE
