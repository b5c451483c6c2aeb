#include "kvstore/block_pool.h"

#include <algorithm>

#include "base/units.h"

namespace passband {
namespace {

// About the time in which some sequence ends or a batch moves on; and the time in which a few
// blocks are written.
constexpr std::chrono::milliseconds kRetryAfter{100};
constexpr std::chrono::milliseconds kRetryAfterWriting{10};

}  // namespace

// `take` tries, and says whether it got something.
template <typename Take>
bool BlockPool::TakeWith(uint64_t bytes, TenantSlot tenant, BlockHome::Which which, Take take) {
  const bool taken = take() || TakeSlowly(bytes, tenant, which, take);
  if (evictor_) evictor_(!taken);
  return taken;
}

template <typename Take>
bool BlockPool::TakeSlowly(uint64_t bytes, TenantSlot tenant, BlockHome::Which asked, Take take) {
  const Time start = std::chrono::steady_clock::now();
  bool taken = false;
  bool more = true;
  while (more && !taken && std::chrono::steady_clock::now() - start < kLongestStall) {
    const BlockHome::Whose whose = home_.PayersFor(tenant);
    const bool drops = home_.tier() == nullptr || !spilling_.load(std::memory_order_relaxed);
    const BlockHome::Which which = drops ? BlockHome::Which::kAny : asked;
    more = home_.DropClean(bytes, bytes, whose, which) > 0 ||
           home_.DropClean(bytes, 0, whose, which) > 0 || (drops && EvictOne());
    taken = take();  // another thread may have made room, too
  }
  NoteStall(std::chrono::steady_clock::now() - start);
  return taken;
}

void BlockPool::NoteStall(Duration stall) {
  constexpr auto& kBounds = AllocationStalls::kBounds;
  const auto bound = std::lower_bound(kBounds.begin(), kBounds.end(), Seconds(stall));
  stalls_[static_cast<size_t>(bound - kBounds.begin())].fetch_add(1, std::memory_order_relaxed);
  stall_sum_.fetch_add(stall.count(), std::memory_order_relaxed);
  Duration::rep longest = longest_stall_.load();
  while (stall.count() > longest && !longest_stall_.compare_exchange_weak(longest, stall.count())) {
  }
}

AllocationStalls BlockPool::stalls() const {
  AllocationStalls out{.sum_seconds = Seconds(Duration(stall_sum_.load())),
                       .longest_seconds = Seconds(Duration(longest_stall_.load()))};
  for (size_t i = 0; i < stalls_.size(); ++i) {
    out.counts[i] = stalls_[i].load(std::memory_order_relaxed);
  }
  return out;
}

StatusOr<BlockRef> BlockPool::Allocate(uint64_t bytes, uint32_t planes, TenantSlot tenant) {
  BlockRef block;
  const bool taken = TakeWith(bytes, tenant, BlockHome::Which::kCold, [&] {
    block = home_.Create(bytes, planes, tenant);
    return static_cast<bool>(block);
  });
  if (!taken) return Exhausted(bytes);
  return block;
}

StatusOr<std::byte*> BlockPool::TakeSlot(Block& block) {
  std::byte* slot = nullptr;
  const bool taken = TakeWith(block.bytes(), block.tenant(), BlockHome::Which::kAny, [&] {
    slot = home_.TakeSlot(block);
    return slot != nullptr;
  });
  if (!taken) return Exhausted(block.bytes());
  return slot;
}

Status BlockPool::Exhausted(uint64_t bytes) {
  failures_.fetch_add(1, std::memory_order_relaxed);
  const Arena& arena = home_.arena();
  return WithRetryAfter(
      Error(StatusCode::kResourceExhausted, "no block of {} is free: {} of {} are in use",
            FormatBytes(bytes), FormatBytes(arena.used_bytes()), FormatBytes(arena.bytes())),
      home_.dirty_bytes() > 0 && spilling_.load() ? kRetryAfterWriting : kRetryAfter);
}

uint64_t BlockPool::Evict(uint64_t bytes) {
  const Arena& arena = home_.arena();
  const uint64_t before = arena.used_bytes();
  uint64_t freed = 0;
  while (freed < bytes && EvictOne()) {
    const uint64_t now = arena.used_bytes();
    freed = before > now ? before - now : 0;
  }
  return freed;
}

bool BlockPool::EvictOne() {
  const uint64_t blocks = index_.EvictOne();
  evicted_blocks_.fetch_add(blocks, std::memory_order_relaxed);
  return blocks > 0;
}

}  // namespace passband
