#include "kvstore/block_home.h"

#include <chrono>
#include <utility>

namespace passband {
namespace {

// How many slots are looked at under the arena's lock, and how many blocks of them are
// compared for the coldest.
constexpr uint64_t kScan = 128;
constexpr size_t kSample = 4;
// How many scans go on for blocks of tenants that pay when others have been found.
constexpr int kSearch = 64;
constexpr uint64_t kTicks = 16;  // in a turn of the arena
constexpr std::chrono::milliseconds kWait{5};
// Used so many ticks ago, a block is in use no more.
constexpr uint32_t kColdTicks = 2;

}  // namespace

BlockRef BlockHome::Create(uint64_t bytes, uint32_t planes, TenantSlot tenant) {
  // Made known to Scan before it is a block: Scan's visitors find it without claims.
  auto block = std::unique_ptr<Block, void (*)(Block*)>(new Block(*this, bytes, planes, tenant),
                                                        [](Block* unused) { delete unused; });
  std::byte* const slot = arena_.Allocate(bytes, block.get());
  if (slot == nullptr) return {};
  NoteTaken(bytes);
  block->data_ = slot;
  block->loaded_.store(block->all_planes(), std::memory_order_relaxed);
  block->Touch(tick());
  shares_.AddRam(tenant, static_cast<int64_t>(bytes));
  block->word_.fetch_add(Block::kResident | Block::kFull | Block::kUser, std::memory_order_release);
  BlockRef claim;
  claim.block_ = block.release();
  return claim;
}

BlockRef BlockHome::Adopt(uint64_t bytes, uint32_t planes, const BlockAddress& address,
                          TenantSlot tenant) {
  auto* const block = new Block(*this, bytes, planes, tenant);
  block->number_.store(address.number, std::memory_order_relaxed);
  block->generation_.store(address.generation, std::memory_order_relaxed);
  block->word_.store(Block::kFrozen | Block::kClean | Block::kUser, std::memory_order_release);
  AddSpilled(static_cast<int64_t>(bytes));
  BlockRef claim;
  claim.block_ = block;
  return claim;
}

std::byte* BlockHome::TakeSlot(Block& block) {
  std::byte* const slot = arena_.Allocate(block.bytes(), &block);
  if (slot != nullptr) NoteTaken(block.bytes());
  return slot;
}

void BlockHome::FreeSlot(std::byte* slot) {
  arena_.Free(slot);
  NoteRoom();
}

void BlockHome::Bury(Block& block) {
  const uint64_t word = block.word();
  const auto bytes = static_cast<int64_t>(block.bytes());
  const bool resident = (word & Block::kResident) != 0;
  const bool clean = (word & Block::kClean) != 0;
  shares_.AddBlocks(block.tenant(), -1);
  if ((word & Block::kWatched) != 0) TellWatcher(block);
  if (resident) shares_.AddRam(block.tenant(), -bytes);
  if (resident && clean) AddClean(block.tenant(), -bytes);
  if (resident && !clean && (word & Block::kFrozen) != 0) AddDirty(-bytes);
  if (!resident && clean) AddSpilled(-bytes);
  if (clean && tier_ != nullptr && !keeping_.load(std::memory_order_relaxed))
    tier_->Drop(block.address());
  if (block.data_ != nullptr) FreeSlot(block.data_);
}

void BlockHome::NoteTaken(uint64_t bytes) {
  const uint64_t turn = arena_.bytes() / kTicks;
  const uint64_t before = taken_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  if ((before + bytes) / turn != before / turn) tick_.fetch_add(1, std::memory_order_relaxed);
}

template <typename Wanted>
std::vector<BlockRef> BlockHome::Sample(Arena::Cursor& cursor, size_t count, Whose whose, bool seek,
                                        bool few, Wanted wanted) {
  std::vector<BlockRef> of_payers;
  std::vector<BlockRef> of_others;
  const uint64_t end = cursor.laps + 2;
  for (int scans = 0; of_payers.size() < count && cursor.laps < end; ++scans) {
    if ((few || !of_others.empty()) && scans >= kSearch) break;
    if (!seek && of_payers.size() + of_others.size() >= count) break;
    arena_.Scan(cursor, kScan, [&](Block& block) {
      if (!wanted(block)) return;
      const bool pays = shares_.Pays(block.tenant());
      if (!pays && whose == Whose::kPayers) return;
      std::vector<BlockRef>& list = pays ? of_payers : of_others;
      if (list.size() >= count) return;
      if (BlockRef claim = BlockRef::Try(&block)) list.push_back(std::move(claim));
    });
  }
  std::vector<BlockRef>& sample = of_payers.empty() ? of_others : of_payers;
  // Read once: others go on using the blocks while they are sorted.
  std::vector<std::pair<uint32_t, size_t>> used;
  for (size_t i = 0; i < sample.size(); ++i) used.emplace_back(sample[i]->used(), i);
  std::sort(used.begin(), used.end());
  std::vector<BlockRef> coldest_first;
  for (const auto& [when, index] : used) coldest_first.push_back(std::move(sample[index]));
  return coldest_first;
}

BlockHome::Whose BlockHome::PayersFor(TenantSlot tenant) {
  shares_.Refresh(tick());
  return shares_.Pays(tenant) ? Whose::kPayers : Whose::kAnyones;
}

uint64_t BlockHome::DropClean(uint64_t bytes, uint64_t like, Whose whose, Which which) {
  if (clean_bytes() == 0) return 0;
  const uint64_t before = dropped_bytes_.load(std::memory_order_relaxed);
  uint64_t freed = 0;
  MutexLock lock(drop_mutex_);
  // Somebody else may have made room while this waited for its turn.
  if (like != 0 && dropped_bytes_.load(std::memory_order_relaxed) - before >= bytes) return bytes;
  while (freed < bytes && clean_bytes() > 0 && !forgetting_.load()) {
    shares_.Refresh(tick());
    const bool seek = shares_.payable().clean > 0;
    if (!seek && whose == Whose::kPayers) break;
    const bool cold_only = which == Which::kCold && dirty_bytes() > 0;
    std::vector<BlockRef> sample = Sample(drop_cursor_, kSample, whose, seek, cold_only,
                                          [like, cold_only, now = tick()](const Block& block) {
                                            return block.evictable() &&
                                                   (like == 0 || block.bytes() == like) &&
                                                   (!cold_only || now - block.used() >= kColdTicks);
                                          });
    if (sample.empty()) break;
    for (const BlockRef& block : sample) {
      std::byte* const slot = block->Evict();
      if (slot == nullptr) continue;
      FreeSlot(slot);
      freed += block->bytes();
      dropped_blocks_.fetch_add(1, std::memory_order_relaxed);
      break;  // of each sample the coldest
    }
  }
  dropped_bytes_.fetch_add(freed, std::memory_order_relaxed);
  return freed;
}

std::vector<BlockRef> BlockHome::ColdDirty(size_t count) {
  if (dirty_bytes() == 0) return {};
  shares_.Refresh(tick());
  std::vector<BlockRef> sample =
      Sample(dirty_cursor_, count * kSample, Whose::kAnyones, shares_.payable().dirty > 0,
             /*few=*/false, [](const Block& block) { return block.writable(); });
  if (sample.size() > count) sample.resize(count);
  return sample;
}

void BlockHome::Forget(uint64_t generation) {
  forgotten_generation_.store(generation);
  Arena::Cursor cursor;
  while (cursor.laps == 0) {
    std::vector<BlockRef> forgotten;
    arena_.Scan(cursor, kScan, [&](Block& block) {
      if (!block.clean() || block.address().generation > generation) return;
      if (BlockRef claim = BlockRef::Try(&block)) forgotten.push_back(std::move(claim));
    });
    for (const BlockRef& block : forgotten) block->ForgetCopy();
  }
}

void BlockHome::WaitForRoom(Time until) {
  waiting_.fetch_add(1);
  {
    MutexLock lock(room_mutex_);
    const uint64_t seen = room_count_;
    // What came free before waiting_ was told is not noticed: never for long, then.
    const Time soon = std::min(until, std::chrono::steady_clock::now() + kWait);
    while (room_count_ == seen) {
      if (room_.wait_until(room_mutex_, soon) == std::cv_status::timeout) break;
    }
  }
  waiting_.fetch_sub(1);
}

void BlockHome::NoteRoom() {
  if (waiting_.load(std::memory_order_relaxed) == 0) return;
  MutexLock lock(room_mutex_);
  ++room_count_;
  room_.notify_all();
}

}  // namespace passband
