// Tier: a level of storage below RAM. Keeps the bytes of blocks.
//
// A block is put once it is whole and never changes, so nothing here is ever out
// of date. It is cut into planes, equal parts that can be read apart (a plane is
// what one kv head holds, where there are not too many heads). The tier chooses
// where a block goes and answers with its address, which the caller keeps; it
// fills one generation after another, and space comes back a generation at a time.
//
// A tier is a cache: it may forget a block, and then says so. What it must not
// do is answer with other bytes than those that were put.
//
// Units      bytes.
// Threads    safe. Calls may wait for I/O: make none with a lock of the store
//            held, but for Drop and Stats.
// Ownership  copies what it is given; the caller's spans are free on return.
// Errors     kDataLoss           the bytes are there but damaged
//            kInvalidArgument    Get of another size or number of planes than was put
//            kResourceExhausted  Put: the tier is at its limit, or the device full
//            kUnavailable        the device fails; the rest of the store goes on
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"

namespace passband {

struct BlockAddress {
  uint64_t generation = 0;  // 0: nowhere
  uint64_t number = 0;      // within it

  explicit operator bool() const { return generation != 0; }
  auto operator<=>(const BlockAddress&) const = default;
};

inline constexpr uint32_t kMaxPlanes = 64;
// A set of planes: bit i is plane i.
using PlaneSet = uint64_t;

struct TierStats {
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;
  uint64_t blocks = 0;
  uint64_t generations = 0;
};

class Tier {
 public:
  virtual ~Tier() = default;

  // `planes`: 1 to kMaxPlanes, a divisor of the block's size. The block can be read at
  // once, and survives a crash from the next Flush on.
  virtual StatusOr<BlockAddress> Put(std::span<const std::byte> block, uint32_t planes) = 0;
  // Whatever was put before this call is on the device when it returns.
  virtual Status Flush() = 0;
  // True: every plane of `wanted` is in its place in `block`; the others are as they were.
  // False, a miss: the block is not here (any more), and so is `block`.
  virtual StatusOr<bool> Get(const BlockAddress& address, uint32_t planes, PlaneSet wanted,
                             std::span<std::byte> block) = 0;
  // Nobody will ask for the block again.
  virtual void Drop(const BlockAddress& address) = 0;
  // Forgets the oldest generation that is full, whoever needs its blocks: they are misses
  // from now on, as are those of every generation before. Returns which; kNotFound when
  // there is none.
  virtual StatusOr<uint64_t> DropOldest() = 0;

  // After a restart, before the calls above: names the blocks that are still wanted, then
  // forgets every generation in which there are none.
  virtual void Claim(const BlockAddress& address) = 0;
  // False: it was never put, or its generation is gone. Then Claim does nothing.
  virtual bool MayHold(const BlockAddress& address) const = 0;
  virtual Status DropUnclaimed() = 0;

  virtual TierStats Stats() const = 0;
};

}  // namespace passband
