#include "kernels/cpu/tip_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tip_lookup.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace passband::kernels::HWY_NAMESPACE {

using U8 = hn::Repartition<uint8_t, F32>;
using VU8 = hn::Vec<U8>;

constexpr size_t kTileTokens = TileTokens(SliceEncoding::kInt2);

HWY_INLINE VU8 LookUp(const LookupTable& table, VU8 index) {
  return hn::TableLookupBytes(hn::LoadDup128(U8(), table.entry), index);
}

// Adds one 16 bit word of the slices, whose bytes are kBytes planes: each head's sum
// over it fits in a byte. `both` gets whole 16 bit lanes, `odd` their high bytes, so
// that neither addition needs the bytes taken apart.
template <size_t kHeads, size_t kBytes>
HWY_INLINE void AddWord(const TileWord* planes, size_t lane, const LookupTable* tables,
                        VU16 (&both)[kHeads], VU16 (&odd)[kHeads]) {
  const U8 d;
  const U16 d16;
  const VU8 mask = hn::Set(d, 0x0f);
  VU8 index[2 * kBytes];
#pragma GCC unroll 2
  for (size_t b = 0; b < kBytes; ++b) {
    const VU8 codes = hn::Load(d, reinterpret_cast<const uint8_t*>(planes[b].lane) + lane);
    index[2 * b] = hn::And(codes, mask);
    index[2 * b + 1] = hn::And(hn::BitCast(d, hn::ShiftRight<4>(hn::BitCast(d16, codes))), mask);
  }
#pragma GCC unroll 4
  for (size_t h = 0; h < kHeads; ++h, tables += kTablesPerWord) {
    // One after the other: more at a time would not fit the registers.
    VU8 sum = LookUp(tables[0], index[0]);
    sum = hn::Add(sum, LookUp(tables[1], index[1]));
    if constexpr (kBytes == 2) {
      sum = hn::Add(sum, LookUp(tables[2], index[2]));
      sum = hn::Add(sum, LookUp(tables[3], index[3]));
    }
    both[h] = hn::Add(both[h], hn::BitCast(d16, sum));
    odd[h] = hn::Add(odd[h], hn::ShiftRight<8>(hn::BitCast(d16, sum)));
  }
}

template <size_t kHeads>
HWY_INLINE void ScoreTile(const TileWord* tile, const TileWord* ahead, size_t words,
                          const LookupTable* tables, uint16_t* products) {
  const U16 d;
  const size_t lanes = hn::Lanes(d);
  for (size_t lane = 0; lane < kTileTokens / 2; lane += lanes) {
    VU16 both[kHeads];
    VU16 odd[kHeads];
#pragma GCC unroll 4
    for (size_t h = 0; h < kHeads; ++h) both[h] = odd[h] = hn::Zero(d);
    const LookupTable* table = tables;
    size_t w = 0;
    for (; w + 2 <= words; w += 2, table += kHeads * kTablesPerWord) {
      PrefetchTile(ahead + w, 2);
      AddWord<kHeads, 2>(tile + w, 2 * lane, table, both, odd);
    }
    if (w < words) AddWord<kHeads, 1>(tile + w, 2 * lane, table, both, odd);
#pragma GCC unroll 4
    for (size_t h = 0; h < kHeads; ++h) {
      uint16_t* to = products + h * kRunTokens + lane;
      hn::StoreU(hn::Sub(both[h], hn::ShiftLeft<8>(odd[h])), d, to);
      hn::StoreU(odd[h], d, to + kTileTokens / 2);
    }
  }
}

template <size_t kHeads>
void ScoreRun(const RunTiles& run, const LookupTable* tables, uint16_t* products) {
  for (size_t tile = 0; tile < run.count; ++tile) {
    const size_t at = tile * run.words;
    ScoreTile<kHeads>(run.tiles + at, run.ahead + at, run.words, tables,
                      products + tile * kTileTokens);
  }
}

void LookupProductsTarget(const RunTiles& run, const LookupQuery& query, uint16_t* products) {
  switch (query.heads) {
    case 1:
      return ScoreRun<1>(run, query.tables, products);
    case 2:
      return ScoreRun<2>(run, query.tables, products);
    case 3:
      return ScoreRun<3>(run, query.tables, products);
    default:
      return ScoreRun<4>(run, query.tables, products);
  }
}
}  // namespace passband::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace passband::kernels {
namespace {
HWY_EXPORT(LookupProductsTarget);
}  // namespace

void LookupProducts(const RunTiles& run, const LookupQuery& query, uint16_t* products) {
  HWY_DYNAMIC_DISPATCH(LookupProductsTarget)(run, query, products);
}

}  // namespace passband::kernels
#endif  // HWY_ONCE
