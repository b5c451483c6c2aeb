#include "kernels/select.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <limits>
#include <numeric>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/select.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/simd-inl.h"

// Three passes, none of which sorts:
//   1. The maxima of many small groups. A floor that as many of them reach as
//      tokens are wanted is one below which no chosen token can lie.
//   2. The tokens at or above the floor are kept: usually few more than wanted.
//   3. Among those the exact wanted-th largest key, by bisection on its bits.

HWY_BEFORE_NAMESPACE();
namespace passband::kernels::HWY_NAMESPACE {

// The order as a signed integer: NaN 0, then 1 + the bits of the (non-negative)
// float. -0 counts as 0.
HWY_INLINE hn::Vec<I32> KeysOf(VF score) {
  const F32 d;
  const I32 di;
  const VF positive = hn::Max(score, hn::Zero(d));
  const auto bits = hn::And(hn::BitCast(di, positive), hn::Set(di, 0x7fffffff));
  const auto number = hn::BitCast(di, hn::VecFromMask(d, hn::Eq(score, score)));
  return hn::And(hn::Add(bits, hn::Set(di, 1)), number);
}

HWY_INLINE hn::Vec<I32> LoadKeys(const uint32_t* keys) {
  return hn::LoadU(I32(), reinterpret_cast<const int32_t*>(keys));
}

size_t CountAtLeast(const uint32_t* keys, size_t count, int32_t floor) {
  const I32 di;
  const size_t lanes = hn::Lanes(di);
  const auto below = hn::Set(di, floor - 1);
  auto found = hn::Zero(di);
  auto also_found = hn::Zero(di);
  size_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    found = hn::Sub(found, hn::VecFromMask(di, hn::Gt(LoadKeys(keys + i), below)));
    also_found =
        hn::Sub(also_found, hn::VecFromMask(di, hn::Gt(LoadKeys(keys + i + lanes), below)));
  }
  for (; i < count; i += lanes) {
    const auto enough = hn::And(hn::FirstN(di, count - i), hn::Gt(LoadKeys(keys + i), below));
    found = hn::Sub(found, hn::VecFromMask(di, enough));
  }
  return static_cast<size_t>(hn::GetLane(hn::SumOfLanes(di, hn::Add(found, also_found))));
}

// The bits that the smallest and the largest key share from the top, and the
// highest in which they differ (-1: none).
struct Prefix {
  int32_t value = 0;
  int bit = -1;
};
Prefix CommonPrefix(const uint32_t* keys, size_t count) {
  const I32 di;
  const size_t lanes = hn::Lanes(di);
  auto least = hn::Set(di, static_cast<int32_t>(keys[0]));
  auto most = least;
  for (size_t i = 0; i < count; i += lanes) {
    const auto here = hn::FirstN(di, count - i);
    const auto key = hn::IfThenElse(here, LoadKeys(keys + i), least);
    least = hn::Min(least, key);
    most = hn::Max(most, key);
  }
  const int32_t low = hn::GetLane(hn::MinOfLanes(di, least));
  const int32_t high = hn::GetLane(hn::MaxOfLanes(di, most));
  if (low == high) return {low, -1};
  const int bit = 31 - std::countl_zero(static_cast<uint32_t>(low ^ high));
  return {static_cast<int32_t>(static_cast<uint32_t>(high) >> bit >> 1 << bit << 1), bit};
}

// A key that at least `wanted` of the keys reach, 0 < wanted <= count: the largest
// such, unless one that no more than `enough` reach is found before. `reached` is
// how many do.
int32_t FloorFor(const uint32_t* keys, size_t count, size_t wanted, size_t enough,
                 size_t& reached) {
  const Prefix prefix = CommonPrefix(keys, count);
  int32_t floor = prefix.value;
  reached = count;
  for (int bit = prefix.bit; bit >= 0 && reached > enough; --bit) {
    const int32_t higher = floor | (int32_t{1} << bit);
    const size_t reach_higher = CountAtLeast(keys, count, higher);
    const bool up = reach_higher >= wanted;
    floor = up ? higher : floor;
    reached = up ? reach_higher : reached;
  }
  return floor;
}

// Keys of the maxima of `group` vectors at a time, lane by lane: their number is
// returned. A lane of no numbers has key 0.
size_t GroupMaxima(const float* scores, size_t count, size_t group, uint32_t* maxima) {
  const I32 di;
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  const VF none = hn::Set(d, -1.0F);
  size_t groups = 0;
  size_t i = 0;
  for (; i + group * lanes <= count; groups += lanes) {
    VF most = none;
    for (size_t k = 0; k < group; ++k, i += lanes) {
      const VF score = hn::LoadU(d, scores + i);
      most = hn::IfThenElse(hn::Gt(score, most), score, most);  // false for NaN
    }
    const auto found = hn::BitCast(di, hn::VecFromMask(d, hn::Ge(most, hn::Zero(d))));
    hn::StoreU(hn::And(KeysOf(most), found), di, reinterpret_cast<int32_t*>(maxima) + groups);
  }
  return groups;
}

// One bit for each of eight scores: is it a number, and at least `least`?
HWY_INLINE uint8_t EightAtLeast(const float* scores, VF least) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  uint8_t bits = 0;
  for (size_t i = 0; i < 8; i += lanes) {
    uint8_t part[8];
    hn::StoreMaskBits(d, hn::Ge(hn::LoadU(d, scores + i), least), part);
    bits = static_cast<uint8_t>(bits | part[0] << i);
  }
  return bits;
}

// Sets bit i of `bits` when the key of score i reaches `floor`.
void MarkAtLeast(const float* scores, size_t count, int32_t floor, uint64_t* bits) {
  const F32 d;
  const size_t words = count / 64 + 1;
  std::fill_n(bits, words, floor == 0 ? ~uint64_t{0} : uint64_t{0});
  bits[words - 1] &= (uint64_t{1} << (count % 64)) - 1;
  if (floor == 0) return;
  // Key 1 is the least number there is.
  const float least =
      floor == 1 ? -std::numeric_limits<float>::infinity() : std::bit_cast<float>(floor - 1);
  auto* bytes = reinterpret_cast<uint8_t*>(bits);
  size_t i = 0;
  for (; i + 8 <= count; i += 8) bytes[i / 8] = EightAtLeast(scores + i, hn::Set(d, least));
  for (; i < count; ++i) {
    bits[i / 64] |= static_cast<uint64_t>(scores[i] >= least) << (i % 64);
  }
}

// Keys and places of the marked scores. Four are written at a time, needed or
// not: a branch for each would be mispredicted about as often as one is found.
size_t KeepMarked(const float* scores, size_t count, const uint64_t* bits, uint32_t* keys,
                  uint32_t* places) {
  const F32 d;
  const I32 di;
  const size_t lanes = hn::Lanes(d);
  size_t kept = 0;
  for (size_t word = 0; word * 64 < count; ++word) {
    uint64_t left = bits[word];
    const auto found = static_cast<size_t>(std::popcount(left));
    for (size_t at = 0; at < found; at += 4) {
      for (size_t k = 0; k < 4; ++k) {
        places[kept + at + k] = static_cast<uint32_t>(word * 64 + (std::countr_zero(left) & 63));
        left &= left - 1;
      }
    }
    kept += found;
  }
  for (size_t i = 0; i < kept; ++i) {
    std::memcpy(&keys[i], scores + places[i], sizeof(float));
  }
  for (size_t i = 0; i < kept; i += lanes) {
    const auto key = KeysOf(hn::LoadU(d, reinterpret_cast<const float*>(keys) + i));
    hn::StoreU(key, di, reinterpret_cast<int32_t*>(keys) + i);
  }
  return kept;
}

// Writes the places of the `wanted` best scores, in rising order. keys and
// places have room for `count` and a vector more, bits for a bit each.
void BestPlaces(const float* scores, size_t count, size_t wanted, uint32_t* keys, uint32_t* places,
                uint64_t* bits, uint32_t* best) {
  const size_t lanes = hn::Lanes(F32());
  const size_t group = count / (2 * lanes * ((wanted + lanes - 1) / lanes));
  size_t reached = 0;
  int32_t floor = 0;
  if (group >= 2) {
    const size_t groups = GroupMaxima(scores, count, group, keys);
    floor = FloorFor(keys, groups, wanted, wanted + wanted / 16, reached);
  }
  MarkAtLeast(scores, count, floor, bits);
  const size_t kept = KeepMarked(scores, count, bits, keys, places);
  const int32_t last = FloorFor(keys, kept, wanted, wanted, reached);
  // More than wanted only when several equal the last: the oldest are left out.
  size_t surplus = reached - wanted;
  for (size_t i = 0, at = 0; at < wanted; ++i) {
    const auto key = static_cast<int32_t>(keys[i]);
    const bool left_out = key == last && surplus > 0;
    surplus -= left_out ? 1 : 0;
    best[at] = places[i];
    at += key >= last && !left_out ? 1 : 0;
  }
}

}  // namespace passband::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace passband::kernels {
namespace {

HWY_EXPORT(BestPlaces);
constexpr size_t kSlack = 16;  // vectors are stored whole

}  // namespace

void SelectTokens(std::span<const float> scores, const SelectOptions& options,
                  SelectScratch& scratch, std::vector<uint32_t>& selected) {
  assert(options.budget >= options.sinks + options.recent);
  assert(scores.size() <= std::numeric_limits<uint32_t>::max());
  const size_t tokens = scores.size();
  selected.resize(std::min<size_t>(tokens, options.budget));
  if (tokens <= options.budget) {
    std::iota(selected.begin(), selected.end(), 0U);
    return;
  }
  const size_t sinks = options.sinks;
  const size_t recent = options.recent;
  const size_t candidates = tokens - sinks - recent;
  const size_t wanted = options.budget - sinks - recent;
  std::iota(selected.begin(), selected.begin() + options.sinks, 0U);
  if (wanted > 0) {
    if (scratch.keys.size() < candidates + kSlack) {
      scratch.keys.resize(candidates + kSlack);
      scratch.candidates.resize(candidates + kSlack);
      scratch.bits.resize(candidates / 64 + 1);
    }
    uint32_t* best = selected.data() + sinks;
    HWY_DYNAMIC_DISPATCH(BestPlaces)
    (scores.data() + sinks, candidates, wanted, scratch.keys.data(), scratch.candidates.data(),
     scratch.bits.data(), best);
    for (size_t i = 0; i < wanted; ++i) best[i] += options.sinks;
  }
  std::iota(selected.end() - options.recent, selected.end(),
            static_cast<uint32_t>(tokens - recent));
}

}  // namespace passband::kernels
#endif  // HWY_ONCE
