// TIP's inner loop: a warp scores the 128 tokens of a tile for kHeads query heads.
//
// The int encodings go through the tensor cores (m16n8k32, u8 x s8 -> s32) with tokens
// as rows. Of 8 heads, a product takes 32 components of 16 tokens. Of 4 heads, it takes
// 16 components of 32 tokens: the second half of its depth is other tokens, which meet
// the heads in columns 4 to 7, so that no column idles. bf16 and fp8 are added up by
// the lanes in float, and land in the same places.
//
// Layout    lane 4 g + q has kTokens tokens and the two heads HeadOf() and the next one:
//           products[i][k] is token TileToken(i) of the tile, head HeadOf() + k.
// Contract  called by whole warps.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/block.cuh"
#include "kernels/cuda/tile.h"
#include "kernels/cuda/tip_query.cuh"

namespace passband::kernels::cuda {

// A lane's products of a tile.
template <int kHeads>
struct LaneProducts {
  static constexpr int kTokens = kHeads == 4 ? 8 : 16;
  float of[kTokens][2];

  __device__ static uint32_t HeadOf() { return kHeads == 4 ? Lane() % 2 * 2 : Lane() % 4 * 2; }
  __device__ static uint32_t TileToken(int i) {
    if constexpr (kHeads == 4) {
      return i / 2 * 32 + i % 2 * 16 + Lane() / 2 % 2 * 8 + Lane() / 4;
    } else {
      return TokenOf(i, Lane() / 4);
    }
  }
  // Over the lanes that have the same heads.
  template <class Combine>
  __device__ static float OverTokens(float value, Combine combine) {
    value = combine(value, __shfl_xor_sync(kAllLanes, value, 4));
    value = combine(value, __shfl_xor_sync(kAllLanes, value, 8));
    value = combine(value, __shfl_xor_sync(kAllLanes, value, 16));
    if constexpr (kHeads == 4) value = combine(value, __shfl_xor_sync(kAllLanes, value, 2));
    return value;
  }
  // Over the lanes that have the same tokens.
  __device__ static float OverHeads(float value) {
    value += __shfl_xor_sync(kAllLanes, value, 1);
    if constexpr (kHeads == 8) value += __shfl_xor_sync(kAllLanes, value, 2);
    return value;
  }
};

__device__ inline uint4 LoadOnce(const uint4* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}

__device__ inline void MultiplyAdd(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline int DotAdd(uint32_t codes, uint32_t levels, int sum) {
  asm("dp4a.u32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(codes), "r"(levels));
  return sum;
}

// The codes of token `n` in a word, one to a byte: times 1, but for where they are.
template <SliceEncoding kEncoding>
__device__ constexpr uint32_t PlacedCodes(uint32_t word, uint32_t n) {
  if constexpr (kEncoding == SliceEncoding::kInt2) {
    return word & 0x03030303U << 2 * (n % 4);
  } else if constexpr (kEncoding == SliceEncoding::kInt4) {
    return word & 0x0f0f0f0fU << 4 * (n % 2);
  } else {
    return word;
  }
}
template <SliceEncoding kEncoding>
__device__ constexpr uint32_t PlaceOf(uint32_t n) {
  return BitsPerComponent(kEncoding) * (n % TokensPerWord(kEncoding));
}

// kSteps 0: as many as the shape has, slower.
template <SliceEncoding kEncoding, int kHeads, int kSteps>
class IntTiles {
 public:
  static constexpr int kPerWord = TokensPerWord(kEncoding);
  static constexpr int kUnits = kSteps == 0 ? 1 : 4 * kSteps / kPerWord;
  struct Raw {
    uint4 unit[kUnits];
  };

  __device__ IntTiles(const SliceShape& shape, const TipQuery<kHeads>& query)
      : query_(query), steps_(kSteps == 0 ? shape.steps() : kSteps) {
    if constexpr (kSteps > 0 && kHeads == 4) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        levels_[step][0] = Lane() < 16 ? Levels(step) : 0;
        levels_[step][1] = Lane() < 16 ? 0 : Levels(step);
      }
    }
  }

  // What Sums needs, ahead of time.
  __device__ static void Load(const std::byte* tile, Raw& raw) {
    if constexpr (kSteps > 0) {
      const uint4* from = reinterpret_cast<const uint4*>(tile) + Lane();
#pragma unroll
      for (int u = 0; u < kUnits; ++u) raw.unit[u] = LoadOnce(from + u * kWarp);
    }
  }

  // Sums as they come: products.of[i] = (sum - Start()) * Unit(i).
  __device__ void Sums(const std::byte* tile, const Raw& raw, LaneProducts<kHeads>& sums) const {
#pragma unroll
    for (int set = 0; set < 4; ++set) {
      if constexpr (kHeads == 4) {
        int c[4] = {kStart, kStart, kStart, kStart};
#pragma unroll
        for (int step = 0; step < (kSteps > 0 ? kSteps : steps_); ++step) {
          uint32_t a[4];
#pragma unroll
          for (int i = 0; i < 4; ++i) a[i] = Codes(tile, raw, set * 4 + i, step);
          if constexpr (kSteps > 0) {
            MultiplyAdd(c, a, levels_[step][0], levels_[step][1]);
          } else {
            MultiplyAdd(c, a, Lane() < 16 ? Levels(step) : 0, Lane() < 16 ? 0 : Levels(step));
          }
        }
        Keep(c, sums.of[set * 2], sums.of[set * 2 + 1]);
      } else {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          int c[4] = {kStart, kStart, kStart, kStart};
          AddDeep(tile, raw, set * 4 + half * 2, c);
          Keep(c, sums.of[set * 4 + half * 2], sums.of[set * 4 + half * 2 + 1]);
        }
      }
    }
  }
  __device__ static constexpr float Start() { return kAsFloat ? kSumStart : 0.0F; }
  // Where a token's codes are in their words multiplies its sums by a power of two.
  __device__ static float Unit(int i) {
    const uint32_t n = kHeads == 4 ? i % 2 + Lane() / 2 % 2 * 2 : i % 4;
    return __int_as_float((127 - static_cast<int>(PlaceOf<kEncoding>(n))) << 23);
  }
  static constexpr int kUnitPeriod = kHeads == 4 ? 2 : 4;

  __device__ void Products(const std::byte* tile, const Raw& raw,
                           LaneProducts<kHeads>& products) const {
    Sums(tile, raw, products);
#pragma unroll
    for (int i = 0; i < LaneProducts<kHeads>::kTokens; ++i) {
      products.of[i][0] = (products.of[i][0] - Start()) * Unit(i);
      products.of[i][1] = (products.of[i][1] - Start()) * Unit(i);
    }
  }

  // One token's products, added up by the four lanes of a quad; all of them get all.
  __device__ void TokenProducts(const std::byte* tile, uint32_t token,
                                float (&products)[kHeads]) const {
    const LaneToken at = LaneTokenOf(token);
    const uint32_t quad = Lane() % 4;
    int sum[kHeads] = {};
    for (int step = 0; step < steps_; ++step) {
      const uint32_t codes = FarCodes(tile, at.g * 4 + quad, at.n, step);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        sum[h] = DotAdd(codes, query_.levels[h][4 * step + quad], sum[h]);
      }
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      sum[h] += __shfl_xor_sync(kAllLanes, sum[h], 1);
      sum[h] += __shfl_xor_sync(kAllLanes, sum[h], 2);
      products[h] = __int2float_rn(sum[h] >> PlaceOf<kEncoding>(at.n));
    }
  }

 private:
  // Of sums below 2^22 this start makes their bits those of the float 1.5 * 2^23 + sum.
  static constexpr bool kAsFloat =
      kEncoding == SliceEncoding::kInt2 || (kEncoding == SliceEncoding::kInt4 && kSteps > 0);
  static constexpr int kStart = kAsFloat ? 0x4b400000 : 0;

  __device__ static float ToFloat(int sum) {
    return kAsFloat ? __int_as_float(sum) : __int2float_rn(sum);
  }
  __device__ static void Keep(const int (&c)[4], float (&one)[2], float (&other)[2]) {
    one[0] = ToFloat(c[0]);
    one[1] = ToFloat(c[1]);
    other[0] = ToFloat(c[2]);
    other[1] = ToFloat(c[3]);
  }

  // The lane's piece of the second factor: column g is head g, or g % 4.
  __device__ uint32_t Levels(int step) const {
    return query_.levels[Lane() / 4 % kHeads][4 * step + Lane() % 4];
  }

  __device__ uint32_t FarCodes(const std::byte* tile, uint32_t lane, uint32_t n, int step) const {
    const uint32_t word = n / kPerWord * steps_ + step;
    return PlacedCodes<kEncoding>(*reinterpret_cast<const uint32_t*>(tile + WordOffset(lane, word)),
                                  n);
  }

  // Four codes of the lane's token n.
  __device__ uint32_t Codes(const std::byte* tile, const Raw& raw, int n, int step) const {
    if constexpr (kSteps == 0) {
      return FarCodes(tile, Lane(), n, step);
    } else {
      const int word = n / kPerWord * kSteps + step;
      const uint4& unit = raw.unit[word / 4];
      const int part = word % 4;
      const uint32_t codes = part == 0 ? unit.x : part == 1 ? unit.y : part == 2 ? unit.z : unit.w;
      return PlacedCodes<kEncoding>(codes, n);
    }
  }

  // Two steps at a time, of tokens n and n + 1.
  __device__ void AddDeep(const std::byte* tile, const Raw& raw, int n, int (&c)[4]) const {
#pragma unroll
    for (int step = 0; step < (kSteps > 0 ? kSteps : steps_); step += 2) {
      const bool more = step + 1 < (kSteps > 0 ? kSteps : steps_);
      uint32_t a[4] = {Codes(tile, raw, n, step), Codes(tile, raw, n + 1, step), 0, 0};
      if (more) {
        a[2] = Codes(tile, raw, n, step + 1);
        a[3] = Codes(tile, raw, n + 1, step + 1);
      }
      MultiplyAdd(c, a, Levels(step), more ? Levels(step + 1) : 0);
    }
  }

  const TipQuery<kHeads>& query_;
  int steps_;
  uint32_t levels_[kSteps > 0 ? kSteps : 1][2];
};

template <SliceEncoding kEncoding, int kHeads>
class FloatTiles {
 public:
  struct Raw {};

  __device__ FloatTiles(const SliceShape& shape, const TipQuery<kHeads>& query)
      : query_(query), units_(shape.units()) {}

  __device__ static void Load(const std::byte*, Raw&) {}
  __device__ static constexpr float Start() { return 0; }
  __device__ static float Unit(int) { return 1; }
  static constexpr int kUnitPeriod = 1;
  __device__ void Sums(const std::byte* tile, const Raw& raw, LaneProducts<kHeads>& sums) const {
    Products(tile, raw, sums);
  }

  __device__ void Products(const std::byte* tile, const Raw&,
                           LaneProducts<kHeads>& products) const {
    using Lanes = LaneProducts<kHeads>;
#pragma unroll
    for (int i = 0; i < Lanes::kTokens; ++i) products.of[i][0] = products.of[i][1] = 0;
    for (uint32_t u = 0; u < units_; ++u) {
#pragma unroll
      for (int begin = 0; begin < Lanes::kTokens; begin += kAtOnce) {
        uint4 unit[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) unit[i] = *UnitAt(tile, u, Lanes::TileToken(begin + i));
#pragma unroll
        for (int c = 0; c < kPerUnit; ++c) {
          const float* q = query_.values + (u * kPerUnit + c) * kHeads + Lanes::HeadOf();
#pragma unroll
          for (int i = 0; i < kAtOnce; ++i) {
            const float component = Component(unit[i], c);
            products.of[begin + i][0] = fmaf(component, q[0], products.of[begin + i][0]);
            products.of[begin + i][1] = fmaf(component, q[1], products.of[begin + i][1]);
          }
        }
      }
    }
#pragma unroll
    for (int i = 0; i < Lanes::kTokens; ++i) {
      products.of[i][0] = Clamp(products.of[i][0]);
      products.of[i][1] = Clamp(products.of[i][1]);
    }
  }

  // The same sums in the same order, by each lane of a quad.
  __device__ void TokenProducts(const std::byte* tile, uint32_t token,
                                float (&products)[kHeads]) const {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) products[h] = 0;
    for (uint32_t u = 0; u < units_; ++u) {
      const uint4 unit = *UnitAt(tile, u, token);
#pragma unroll
      for (int c = 0; c < kPerUnit; ++c) {
        const float component = Component(unit, c);
        const float* q = query_.values + (u * kPerUnit + c) * kHeads;
#pragma unroll
        for (int h = 0; h < kHeads; ++h) products[h] = fmaf(component, q[h], products[h]);
      }
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h) products[h] = Clamp(products[h]);
  }

 private:
  static constexpr int kPerUnit = 128 / BitsPerComponent(kEncoding);
  static constexpr int kAtOnce = 4;

  __device__ static const uint4* UnitAt(const std::byte* tile, uint32_t u, uint32_t token) {
    return reinterpret_cast<const uint4*>(tile) + u * kTileTokens + token;
  }
  __device__ static float Component(const uint4& unit, int c) {
    const int at = c * BitsPerComponent(kEncoding) / 32;
    const uint32_t word = at == 0 ? unit.x : at == 1 ? unit.y : at == 2 ? unit.z : unit.w;
    if constexpr (kEncoding == SliceEncoding::kBf16) {
      return __uint_as_float(c % 2 == 0 ? word << 16 : word & 0xffff0000U);
    } else {
      return WidenFp8(word >> c % 4 * 8 & 0xffU);
    }
  }
  __device__ static float Clamp(float logit) {
    if (logit != logit) return -kMaxLog2;
    return fminf(fmaxf(logit, -kMaxLog2), kMaxLog2);
  }

  const TipQuery<kHeads>& query_;
  uint32_t units_;
};

template <SliceEncoding kEncoding, int kHeads, int kSteps>
struct TilesOf {
  using Type = IntTiles<kEncoding, kHeads, kSteps>;
};
template <int kHeads, int kSteps>
struct TilesOf<SliceEncoding::kBf16, kHeads, kSteps> {
  using Type = FloatTiles<SliceEncoding::kBf16, kHeads>;
};
template <int kHeads, int kSteps>
struct TilesOf<SliceEncoding::kFp8, kHeads, kSteps> {
  using Type = FloatTiles<SliceEncoding::kFp8, kHeads>;
};

}  // namespace passband::kernels::cuda
