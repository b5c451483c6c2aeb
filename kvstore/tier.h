// Tier: a level of storage below RAM. Keeps the bytes of blocks by key.
//
// A key names one content for ever: a block is put once it is whole and is never
// changed, so nothing here is ever out of date. A tier is a cache: it may forget
// a block at any time, and then says so. What it must not do is answer with
// other bytes than those that were put.
//
// Units      bytes.
// Threads    safe. Calls may wait for I/O: make none with a lock of the store
//            held.
// Ownership  copies what it is given; the caller's spans are free on return.
// Errors     kDataLoss           the bytes are there but damaged (the block is
//                                dropped, so the next Get is a miss)
//            kInvalidArgument    Get into a span of another size than was put
//            kResourceExhausted  Put: no room, and none can be made
//            kUnavailable        the device fails; the rest of the store goes on
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"

namespace passband {

struct BlockKey {
  uint64_t store = 0;   // drawn at random when a store is first created
  uint64_t number = 0;  // counts up within it, across restarts

  auto operator<=>(const BlockKey&) const = default;
};

struct TierStats {
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;
  uint64_t blocks = 0;
};

class Tier {
 public:
  virtual ~Tier() = default;

  // Putting a key again is no error and changes nothing.
  virtual Status Put(const BlockKey& key, std::span<const std::byte> bytes) = 0;
  // True: `bytes` holds the whole block. False, a miss: it is not here (any
  // more), and `bytes` is as it was.
  virtual StatusOr<bool> Get(const BlockKey& key, std::span<std::byte> bytes) = 0;
  // Forgets the block; one that is not here is no error.
  virtual Status Drop(const BlockKey& key) = 0;

  virtual TierStats Stats() const = 0;
};

}  // namespace passband
