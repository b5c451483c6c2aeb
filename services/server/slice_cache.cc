#include "services/server/slice_cache.h"

#include <algorithm>
#include <utility>

#include "absl/hash/hash.h"

namespace passband::server {
namespace {

// Of the lists and allocations around one entry, about.
constexpr uint64_t kEntryBytes = 192;

}  // namespace

uint64_t SliceCache::Cost(const Slices& slices) { return slices.capacity() + kEntryBytes; }

SliceCache::Part& SliceCache::PartOf(const Block& block) {
  return parts_[absl::HashOf(&block) % kParts];
}

std::shared_ptr<const SliceCache::Slices> SliceCache::Find(const Block& block,
                                                           const Recipe& recipe) {
  if (part_capacity_ == 0) return nullptr;
  Part& part = PartOf(block);
  MutexLock lock(part.mutex);
  if (const auto found = part.of.find(&block); found != part.of.end()) {
    for (const Entries::iterator& entry : found->second) {
      if (entry->recipe != recipe) continue;
      part.entries.splice(part.entries.begin(), part.entries, entry);
      ++part.hits;
      return entry->slices;
    }
  }
  ++part.misses;
  return nullptr;
}

void SliceCache::Insert(Block& block, const Recipe& recipe, Slices slices) {
  const uint64_t cost = Cost(slices);
  if (cost > part_capacity_) return;
  auto shared = std::make_shared<const Slices>(std::move(slices));
  Part& part = PartOf(block);
  MutexLock lock(part.mutex);
  std::vector<Entries::iterator>& of_block = part.of[&block];
  const auto known =
      std::find_if(of_block.begin(), of_block.end(),
                   [&](const Entries::iterator& entry) { return entry->recipe == recipe; });
  if (known != of_block.end()) return;
  block.Watch();
  part.entries.push_front({.block = &block, .recipe = recipe, .slices = std::move(shared)});
  of_block.push_back(part.entries.begin());
  part.bytes += cost;
  while (part.bytes > part_capacity_) RemoveLast(part);
}

void SliceCache::RemoveLast(Part& part) {
  const auto last = std::prev(part.entries.end());
  const auto found = part.of.find(last->block);
  std::erase(found->second, last);
  if (found->second.empty()) part.of.erase(found);
  part.bytes -= Cost(*last->slices);
  part.entries.erase(last);
  ++part.evictions;
}

void SliceCache::Gone(const Block& block) {
  Part& part = PartOf(block);
  MutexLock lock(part.mutex);
  const auto found = part.of.find(&block);
  if (found == part.of.end()) return;
  for (const Entries::iterator& entry : found->second) {
    part.bytes -= Cost(*entry->slices);
    part.entries.erase(entry);
  }
  part.of.erase(found);
}

SliceCache::Stats SliceCache::stats() const {
  Stats stats{.capacity_bytes = part_capacity_ * kParts};
  for (const Part& part : parts_) {
    MutexLock lock(part.mutex);
    stats.bytes += part.bytes;
    stats.hits += part.hits;
    stats.misses += part.misses;
    stats.evictions += part.evictions;
  }
  return stats;
}

}  // namespace passband::server
