#include "kernels/select.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <numeric>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/select.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/simd-inl.h"

// Three passes, none of which sorts:
//   1. The maxima of many small groups; their count-th largest (to 16 bits) is a
//      floor below which no chosen token can lie.
//   2. The tokens at or above the floor are kept: usually little more than count.
//   3. Among those the exact count-th largest key, by bisection on its bits.

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

size_t CountAtLeast(const uint32_t* keys, size_t count, int32_t floor) {
  const I32 di;
  const size_t lanes = hn::Lanes(di);
  const auto below = hn::Set(di, floor - 1);
  auto found = hn::Zero(di);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto key = hn::LoadU(di, reinterpret_cast<const int32_t*>(keys) + i);
    found = hn::Sub(found, hn::VecFromMask(di, hn::Gt(key, below)));
  }
  size_t total = static_cast<size_t>(hn::GetLane(hn::SumOfLanes(di, found)));
  for (; i < count; ++i) total += static_cast<int32_t>(keys[i]) >= floor ? 1 : 0;
  return total;
}

// The largest key with its low `ignored_bits` zero that at least `wanted` keys
// reach; 0 when wanted is 0 or no such key is positive.
int32_t FloorFor(const uint32_t* keys, size_t count, size_t wanted, int ignored_bits) {
  int32_t floor = 0;
  for (int bit = 30; bit >= ignored_bits; --bit) {
    const int32_t higher = floor | (int32_t{1} << bit);
    if (CountAtLeast(keys, count, higher) >= wanted) floor = higher;
  }
  return floor;
}

// Maxima of `group` vectors at a time; scores.size() / group of them at least.
size_t GroupMaxima(const float* scores, size_t count, size_t group, uint32_t* maxima) {
  const I32 di;
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  size_t groups = 0;
  size_t i = 0;
  for (; i + group * lanes <= count; groups += lanes) {
    auto most = hn::Zero(di);
    for (size_t k = 0; k < group; ++k, i += lanes) {
      most = hn::Max(most, KeysOf(hn::LoadU(d, scores + i)));
    }
    hn::StoreU(most, di, reinterpret_cast<int32_t*>(maxima) + groups);
  }
  return groups;
}

// Keeps keys and places of the scores whose key reaches `floor`.
size_t KeepAtLeast(const float* scores, size_t count, int32_t floor, uint32_t* keys,
                   uint32_t* places) {
  const F32 d;
  const U32 du;
  const I32 di;
  const size_t lanes = hn::Lanes(d);
  const auto below = hn::Set(di, floor - 1);
  size_t kept = 0;
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto key = KeysOf(hn::LoadU(d, scores + i));
    const auto enough = hn::Gt(key, below);
    if (hn::AllFalse(di, enough)) continue;
    const auto mask = hn::RebindMask(du, enough);
    const auto place = hn::Iota(du, static_cast<uint32_t>(i));
    hn::CompressStore(hn::BitCast(du, key), mask, du, keys + kept);
    kept += hn::CompressStore(place, mask, du, places + kept);
  }
  for (; i < count; ++i) {
    const int32_t key = hn::GetLane(KeysOf(hn::Set(d, scores[i])));
    keys[kept] = static_cast<uint32_t>(key);
    places[kept] = static_cast<uint32_t>(i);
    kept += key >= floor ? 1 : 0;
  }
  return kept;
}

// Writes the places of the `wanted` best scores, in rising order. keys and
// places have room for `count` and a vector more.
void BestPlaces(const float* scores, size_t count, size_t wanted, uint32_t* keys, uint32_t* places,
                uint32_t* best) {
  const size_t lanes = hn::Lanes(F32());
  const size_t group = count / (2 * lanes * ((wanted + lanes - 1) / lanes));
  int32_t floor = 0;
  if (group >= 2) {
    const size_t groups = GroupMaxima(scores, count, group, keys);
    floor = FloorFor(keys, groups, wanted, 15);
  }
  const size_t kept = KeepAtLeast(scores, count, floor, keys, places);
  const int32_t last = FloorFor(keys, kept, wanted, 0);
  size_t equal_to_skip = CountAtLeast(keys, kept, last) - wanted;
  for (size_t i = 0, at = 0; at < wanted; ++i) {
    const auto key = static_cast<int32_t>(keys[i]);
    const bool skip = key < last || (key == last && equal_to_skip > 0);
    equal_to_skip -= key == last && skip ? 1 : 0;
    best[at] = places[i];
    at += skip ? 0 : 1;
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
    if (scratch.keys.size() < candidates + kSlack) scratch.keys.resize(candidates + kSlack);
    if (scratch.candidates.size() < candidates + kSlack) {
      scratch.candidates.resize(candidates + kSlack);
    }
    uint32_t* best = selected.data() + sinks;
    HWY_DYNAMIC_DISPATCH(BestPlaces)
    (scores.data() + sinks, candidates, wanted, scratch.keys.data(), scratch.candidates.data(),
     best);
    for (size_t i = 0; i < wanted; ++i) best[i] += options.sinks;
  }
  std::iota(selected.end() - options.recent, selected.end(),
            static_cast<uint32_t>(tokens - recent));
}

}  // namespace passband::kernels
#endif  // HWY_ONCE
