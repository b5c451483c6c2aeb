#include "kvstore/block.h"

#include "kvstore/arena.h"

namespace passband {

void Block::AddClaim() {
  const uint64_t before = counts_.fetch_add(1, std::memory_order_relaxed);
  if (IsCached(before)) arena_->AddCached(-static_cast<int64_t>(bytes_));
}

// Once the claim is dropped the Block itself may go: nothing of it is read later
// (Free is called by whoever dropped the last claim, so there it still stands).
void Block::DropClaim() {
  Arena* const arena = arena_;
  const auto bytes = static_cast<int64_t>(bytes_);
  const uint64_t after = counts_.fetch_sub(1, std::memory_order_acq_rel) - 1;
  if (Claims(after) == 0) {
    arena->Free(this);
  } else if (IsCached(after)) {
    arena->AddCached(bytes);
  }
}

void Block::DropIndexClaim() {
  const uint64_t before = counts_.fetch_sub(kIndexClaim + 1, std::memory_order_acq_rel);
  if (Claims(before) > 1) return;
  arena_->AddCached(-static_cast<int64_t>(bytes_));
  arena_->Free(this);
}

}  // namespace passband
