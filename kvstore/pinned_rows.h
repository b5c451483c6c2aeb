// PinnedRows: pointers to rows that stay valid, and unchanged, while this lives.
//
// Reuse one per data thread: Clear() keeps the memory of its lists.
//
// Threads    for one thread.
// Ownership  pins every block its rows lie in; to be destroyed, or cleared, before the store.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kvstore/block.h"

namespace passband {

class PinnedRows {
 public:
  std::span<const std::byte* const> rows() const { return rows_; }
  void Clear() {
    rows_.clear();
    pins_.clear();
  }

 private:
  friend class Layer;
  friend class Store;

  struct Mark {
    size_t rows = 0;
    size_t pins = 0;
  };
  Mark mark() const { return {rows_.size(), pins_.size()}; }
  void ReturnTo(Mark mark) {
    rows_.resize(mark.rows);
    pins_.erase(pins_.begin() + static_cast<ptrdiff_t>(mark.pins), pins_.end());
  }

  std::vector<const std::byte*> rows_;
  std::vector<Pin> pins_;
};

}  // namespace passband
