#include "kvstore/block.h"

#include "kvstore/arena.h"

namespace passband {

void Block::LeaveCache() { arena_->AddCached(-static_cast<int64_t>(bytes_)); }

// `block` may be read only when no claim is left: else it may be gone.
void Block::AfterLastUser(Arena* arena, uint64_t bytes, uint64_t counts, Block* block) {
  if (Claims(counts) == 0) {
    arena->Free(block);
  } else {
    arena->AddCached(static_cast<int64_t>(bytes));
  }
}

void Block::DropIndexClaim() {
  const uint64_t before = counts_.fetch_sub(kIndexClaim + 1, std::memory_order_acq_rel);
  if (Claims(before) > 1) return;
  arena_->AddCached(-static_cast<int64_t>(bytes_));
  arena_->Free(this);
}

}  // namespace passband
