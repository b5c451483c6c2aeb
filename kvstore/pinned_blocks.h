// PinnedBlocks: the blocks of a range of tokens, in order, whose rows stay valid and unchanged
// while this lives; but for those whose rows the caller did not want.
//
// Threads    for one thread.
// Ownership  pins its blocks; to be destroyed, or cleared, before the store.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "kvstore/block.h"

namespace passband {

// Whether the rows of a block are wanted.
using WantedBlock = std::function<bool(size_t place, const Block& block)>;

class PinnedBlocks {
 public:
  // Null: not wanted.
  std::span<Block* const> blocks() const { return blocks_; }
  size_t pins() const { return pins_.size(); }
  void Clear() {
    blocks_.clear();
    pins_.clear();
  }

 private:
  friend class Layer;

  std::vector<Block*> blocks_;
  std::vector<Pin> pins_;
};

}  // namespace passband
