#include "kvstore/arena.h"

#include <algorithm>
#include <bit>

#include "base/units.h"

namespace passband {
namespace {

constexpr uint64_t kSlotAlignment = 64;
constexpr uint64_t kMinBytes = 64 * kKiB;
constexpr uint64_t kMinSlab = 4 * kKiB;
constexpr uint64_t kMaxSlab = 8 * kMiB;

uint64_t SlabBytesFor(const Arena::Options& options) {
  if (options.slab_bytes != 0) return options.slab_bytes;
  return std::clamp(std::bit_floor(options.bytes / 16), kMinSlab, kMaxSlab);
}

}  // namespace

StatusOr<std::unique_ptr<Arena>> Arena::Create(const Options& options) {
  if (options.bytes < kMinBytes) {
    return Error(StatusCode::kInvalidArgument, "an arena of {}: give it {} or more",
                 FormatBytes(options.bytes), FormatBytes(kMinBytes));
  }
  const uint64_t slab_bytes = SlabBytesFor(options);
  if (!std::has_single_bit(slab_bytes) || slab_bytes < kMinSlab || slab_bytes > options.bytes) {
    return Error(StatusCode::kInvalidArgument,
                 "slabs of {} bytes: give a power of two from {} to the arena's size", slab_bytes,
                 kMinSlab);
  }
  if (options.bytes / slab_bytes >= kNone) {
    return Error(StatusCode::kInvalidArgument, "an arena of {} is too large for slabs of {}",
                 FormatBytes(options.bytes), slab_bytes);
  }
  PASSBAND_ASSIGN_OR_RETURN(std::unique_ptr<Mapping> mapping,
                            Mapping::Create({.bytes = options.bytes / slab_bytes * slab_bytes,
                                             .huge_pages = options.huge_pages,
                                             .pre_touch = options.pre_touch,
                                             .lock = options.lock,
                                             .touch_threads = options.touch_threads}));
  return std::unique_ptr<Arena>(new Arena(std::move(mapping), slab_bytes));
}

Arena::Arena(std::unique_ptr<Mapping> mapping, uint64_t slab_bytes)
    : mapping_(std::move(mapping)),
      slab_bytes_(slab_bytes),
      slab_count_(static_cast<uint32_t>(mapping_->bytes() / slab_bytes)) {
  MutexLock lock(mutex_);
  slabs_.resize(slab_count_);
  for (uint32_t slab = slab_count_; slab-- > 0;) Link(first_empty_, slab);
}

Arena::~Arena() { PASSBAND_CHECK(used_bytes() == 0); }

std::byte* Arena::Allocate(uint64_t bytes, Block* owner) {
  PASSBAND_CHECK(bytes > 0 && bytes % kSlotAlignment == 0 && bytes <= slab_bytes_);
  MutexLock lock(mutex_);
  SizeClass& size_class = ClassOf(bytes);
  if (size_class.first == kNone) {
    if (first_empty_ == kNone) return nullptr;
    const uint32_t empty = first_empty_;
    Unlink(first_empty_, empty);
    Cut(empty, bytes);
    Link(size_class.first, empty);
  }
  const uint32_t index = size_class.first;
  Slab& slab = slabs_[index];
  const uint32_t slot = slab.first_free;
  Entry& entry = slab.entries[slot];
  slab.first_free = entry.next_free;
  entry.owner = owner;
  ++slab.used;
  if (slab.first_free == kNone) Unlink(size_class.first, index);
  used_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return data() + uint64_t{index} * slab_bytes_ + slot * bytes;
}

void Arena::Free(std::byte* slot) {
  const auto offset = static_cast<uint64_t>(slot - data());
  const auto index = static_cast<uint32_t>(offset / slab_bytes_);
  MutexLock lock(mutex_);
  Slab& slab = slabs_[index];
  SizeClass& size_class = ClassOf(slab.block_bytes);
  const auto number = static_cast<uint32_t>(offset % slab_bytes_ / slab.block_bytes);
  if (slab.first_free == kNone) Link(size_class.first, index);
  slab.entries[number] = {.owner = nullptr, .next_free = slab.first_free};
  slab.first_free = number;
  --slab.used;
  used_bytes_.fetch_sub(slab.block_bytes, std::memory_order_relaxed);
  if (slab.used == 0) {
    Unlink(size_class.first, index);
    Link(first_empty_, index);
  }
}

Arena::SizeClass& Arena::ClassOf(uint64_t block_bytes) {
  for (SizeClass& size_class : classes_) {
    if (size_class.block_bytes == block_bytes) return size_class;
  }
  return classes_.emplace_back(SizeClass{.block_bytes = block_bytes});
}

// Slots that are cut to the same size already stay as they are.
void Arena::Cut(uint32_t index, uint64_t block_bytes) {
  Slab& slab = slabs_[index];
  if (slab.block_bytes == block_bytes) return;
  slab.block_bytes = block_bytes;
  slab.slots = static_cast<uint32_t>(slab_bytes_ / block_bytes);
  slab.entries = std::make_unique<Entry[]>(slab.slots);
  for (uint32_t slot = 0; slot + 1 < slab.slots; ++slot) slab.entries[slot].next_free = slot + 1;
  slab.first_free = 0;
}

void Arena::Link(uint32_t& first, uint32_t slab) {
  slabs_[slab].previous = kNone;
  slabs_[slab].next = first;
  if (first != kNone) slabs_[first].previous = slab;
  first = slab;
}

void Arena::Unlink(uint32_t& first, uint32_t slab) {
  const Slab& gone = slabs_[slab];
  if (gone.previous == kNone) {
    first = gone.next;
  } else {
    slabs_[gone.previous].next = gone.next;
  }
  if (gone.next != kNone) slabs_[gone.next].previous = gone.previous;
}

}  // namespace passband
