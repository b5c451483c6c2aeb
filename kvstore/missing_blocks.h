// MissingBlocks: the blocks, and the planes of them, that a call found not in RAM: to be
// restored before the call can succeed (Store::Restore).
//
// Threads    for one thread.
// Ownership  claims the blocks; to be destroyed, or cleared, before the store.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "kvstore/block.h"
#include "kvstore/types.h"

namespace passband {

class MissingBlocks {
 public:
  struct Part {
    BlockRef block;
    PlaneSet planes = 0;
    // Where it was missed, for messages.
    SequenceId sequence;
    uint32_t layer = 0;
    uint64_t first_token = 0;
  };

  bool empty() const { return parts_.empty(); }
  const std::vector<Part>& parts() const { return parts_; }
  // What the planes would read, and the RAM that the blocks would take.
  uint64_t plane_bytes() const {
    uint64_t bytes = 0;
    for (const Part& part : parts_) {
      bytes += part.block->bytes() / part.block->planes() *
               static_cast<uint64_t>(__builtin_popcountll(part.planes));
    }
    return bytes;
  }
  uint64_t block_bytes() const {
    uint64_t bytes = 0;
    for (const Part& part : parts_) bytes += part.block->bytes();
    return bytes;
  }
  void Clear() {
    parts_.clear();
    places_.clear();
  }

  void Add(const BlockRef& block, PlaneSet planes, SequenceId sequence, uint32_t layer,
           uint64_t first_token) {
    const auto [at, added] = places_.emplace(block.get(), parts_.size());
    if (!added) {
      parts_[at->second].planes |= planes;
      return;
    }
    parts_.push_back({block, planes, sequence, layer, first_token});
  }

 private:
  std::vector<Part> parts_;
  absl::flat_hash_map<const Block*, size_t> places_;  // in parts_
};

}  // namespace passband
