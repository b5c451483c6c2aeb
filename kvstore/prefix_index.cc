#include "kvstore/prefix_index.h"

#include <algorithm>
#include <cstring>

namespace passband {
namespace {

// A long prompt is matched in pieces, so that no one waits for the whole of it.
constexpr size_t kMatchPiece = 32;
// DropLost ends after so many columns that are not lost.
constexpr int kLostSearch = 64;
// How many columns of tenants that pay are looked at before any others.
constexpr size_t kPayerSearch = 256;

}  // namespace

bool PrefixIndex::Entry::cached() const {
  return std::all_of(blocks.begin(), blocks.end(), [](const Block* b) { return b->unclaimed(); }) &&
         partly_cached();
}

bool PrefixIndex::Entry::partly_cached() const {
  return std::any_of(blocks.begin(), blocks.end(), [](const Block* b) { return b->cached(); });
}

bool PrefixIndex::Entry::lost() const {
  return std::any_of(blocks.begin(), blocks.end(), [](const Block* b) { return b->lost(); });
}

size_t PrefixIndex::FirstBytes::operator()(const PrefixDigest& digest) const {
  size_t hash = 0;
  std::memcpy(&hash, digest.data(), sizeof(hash));
  return hash;
}

PrefixIndex::~PrefixIndex() {
  MutexLock lock(mutex_);
  for (const auto& [digest, entry] : entries_) {
    for (Block* block : entry->blocks) block->DropIndexClaim();
  }
}

std::vector<Column> PrefixIndex::Match(std::span<const PrefixDigest> chain) {
  std::vector<Column> columns;
  while (columns.size() < chain.size()) {
    const size_t end = std::min(chain.size(), columns.size() + kMatchPiece);
    MutexLock lock(mutex_);
    ++uses_;
    while (columns.size() < end) {
      Entry* entry = Find(chain[columns.size()]);
      if (entry == nullptr) return columns;
      if (entry->lost()) {
        RemoveAll(*entry);
        return columns;
      }
      Touch(*entry);
      columns.emplace_back(entry->blocks.begin(), entry->blocks.end());
    }
  }
  return columns;
}

uint64_t PrefixIndex::Count(std::span<const PrefixDigest> chain) const {
  uint64_t count = 0;
  while (count < chain.size()) {
    const uint64_t end = std::min<uint64_t>(chain.size(), count + kMatchPiece);
    MutexLock lock(mutex_);
    for (; count < end; ++count) {
      const Entry* const entry = Find(chain[count]);
      if (entry == nullptr || entry->lost()) return count;
    }
  }
  return count;
}

bool PrefixIndex::Insert(const NamedColumn& column) {
  MutexLock lock(mutex_);
  ++uses_;
  if (Entry* known = Find(column.digest)) {
    if (!known->lost()) {
      Touch(*known);
      return true;
    }
    RemoveAll(*known);
  }
  Entry* parent = nullptr;
  if (!column.first) {
    parent = Find(column.parent);
    if (parent == nullptr) return false;
    if (parent->first_child == nullptr) RemoveLeaf(*parent);
  }
  auto entry = std::make_unique<Entry>();
  entry->digest = column.digest;
  entry->parent = parent;
  entry->used = uses_;
  if (parent != nullptr) {
    entry->next_sibling = parent->first_child;
    if (parent->first_child != nullptr) parent->first_child->previous_sibling = entry.get();
    parent->first_child = entry.get();
  }
  entry->blocks.reserve(column.blocks.size());
  for (const BlockRef& block : column.blocks) {
    block->AddIndexClaim();
    entry->blocks.push_back(block.get());
  }
  if (!column.blocks.empty()) entry->tenant = column.blocks.front()->tenant();
  AddLeaf(*entry);
  entries_.emplace(column.digest, std::move(entry));
  return true;
}

uint64_t PrefixIndex::EvictOne() {
  MutexLock lock(mutex_);
  if (home_.cached_bytes() == 0) return 0;
  if (const uint64_t blocks = EvictOfPayers(); blocks > 0) return blocks;
  size_t looks = leaves_.size();
  if (const uint64_t blocks = EvictAmong(leaves_, looks); blocks > 0) return blocks;
  return EvictInUse();
}

uint64_t PrefixIndex::EvictOfPayers() {
  size_t looks = kPayerSearch;
  for (const auto& [tenant, leaves] : leaves_of_) {
    if (!home_.shares().Pays(tenant)) continue;
    if (const uint64_t blocks = EvictAmong(leaves, looks); blocks > 0) return blocks;
  }
  return 0;
}

uint64_t PrefixIndex::EvictAmong(const Leaves& leaves, size_t& looks) {
  for (size_t i = leaves.size(); i > 0 && looks > 0; --i, --looks) {
    Entry& oldest = *leaves.begin()->second;
    if (oldest.cached()) return Remove(oldest);
    // Somebody claims it, so it is in use now: it moves out of the way of the
    // next search.
    ++uses_;
    Touch(oldest);
  }
  return 0;
}

// No leaf is free of claims, and yet some block is: of a column before them (its
// continuations come from sequences that computed the same prefix for
// themselves), or of some layers of a column (a reader holds the others). What
// others claim stays theirs.
uint64_t PrefixIndex::EvictInUse() {
  Entry* oldest = nullptr;
  for (const auto& [digest, entry] : entries_) {
    if ((oldest == nullptr || entry->used < oldest->used) && entry->partly_cached()) {
      oldest = entry.get();
    }
  }
  return oldest == nullptr ? 0 : RemoveAll(*oldest);
}

void PrefixIndex::DropLost() {
  MutexLock lock(mutex_);
  int others = 0;
  for (auto at = leaves_.begin(); at != leaves_.end() && others < kLostSearch;) {
    Entry* entry = at->second;
    ++at;  // what is removed from here on lies before it, or was no leaf yet
    others = entry->lost() ? 0 : others + 1;
    while (entry != nullptr && entry->first_child == nullptr && entry->lost()) {
      Entry* const parent = entry->parent;
      Remove(*entry);
      entry = parent;
    }
  }
}

uint64_t PrefixIndex::RemoveAll(Entry& entry) {
  uint64_t blocks = 0;
  while (entry.first_child != nullptr) {
    Entry* leaf = entry.first_child;
    while (leaf->first_child != nullptr) leaf = leaf->first_child;
    blocks += Remove(*leaf);
  }
  return blocks + Remove(entry);
}

uint64_t PrefixIndex::columns() const {
  MutexLock lock(mutex_);
  return entries_.size();
}

PrefixIndex::Entry* PrefixIndex::Find(const PrefixDigest& digest) const {
  const auto found = entries_.find(digest);
  return found == entries_.end() ? nullptr : found->second.get();
}

void PrefixIndex::AddLeaf(Entry& entry) {
  leaves_.emplace(entry.used, &entry);
  leaves_of_[entry.tenant].emplace(entry.used, &entry);
}

void PrefixIndex::RemoveLeaf(Entry& entry) {
  leaves_.erase({entry.used, &entry});
  // The list stays, though it may be empty: the entry may be back at once.
  leaves_of_.at(entry.tenant).erase({entry.used, &entry});
}

void PrefixIndex::Touch(Entry& entry) {
  const bool leaf = entry.first_child == nullptr;
  if (leaf) RemoveLeaf(entry);
  entry.used = uses_;
  if (leaf) AddLeaf(entry);
}

uint64_t PrefixIndex::Remove(Entry& leaf) {
  RemoveLeaf(leaf);
  if (leaf.next_sibling != nullptr) leaf.next_sibling->previous_sibling = leaf.previous_sibling;
  if (leaf.previous_sibling != nullptr) {
    leaf.previous_sibling->next_sibling = leaf.next_sibling;
  } else if (leaf.parent != nullptr) {
    leaf.parent->first_child = leaf.next_sibling;
  }
  if (leaf.parent != nullptr && leaf.parent->first_child == nullptr) {
    AddLeaf(*leaf.parent);
  }
  const auto of_tenant = leaves_of_.find(leaf.tenant);
  if (of_tenant->second.empty()) leaves_of_.erase(of_tenant);
  uint64_t gone = 0;
  for (Block* block : leaf.blocks) {
    if (block->cached()) ++gone;
    block->DropIndexClaim();
  }
  const PrefixDigest digest = leaf.digest;
  entries_.erase(digest);
  return gone;
}

}  // namespace passband
