#include "kvstore/prefix_index.h"

#include <algorithm>
#include <cstring>

namespace passband {
namespace {

// A long prompt is matched, and all columns are looked at, in pieces, so that no one waits for the
// whole of it.
constexpr size_t kPiece = 32;
// DropLost ends after so many columns that are not lost.
constexpr int kLostSearch = 64;
// How many columns of tenants that pay are looked at before any others.
constexpr size_t kPayerSearch = 256;
// How many columns make room in the tier at a time, and how many are looked at for that.
constexpr uint64_t kDropped = 32;
constexpr int kStoredSearch = 1 << 16;
// How many blocks TakeStored asks for at a time.
constexpr size_t kLacking = 256;

uint64_t OldestOf(const std::vector<BlockAddress>& blocks) {
  return std::min_element(blocks.begin(), blocks.end())->generation;
}

}  // namespace

bool PrefixIndex::Entry::cached() const { return unclaimed() && partly_cached(); }

bool PrefixIndex::Entry::unclaimed() const {
  return std::all_of(blocks.begin(), blocks.end(), [](const Block* b) { return b->unclaimed(); });
}

bool PrefixIndex::Entry::stored_in_part() const {
  return std::any_of(blocks.begin(), blocks.end(), [](const Block* b) { return b->clean(); });
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
    const size_t end = std::min(chain.size(), columns.size() + kPiece);
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
    const uint64_t end = std::min<uint64_t>(chain.size(), count + kPiece);
    MutexLock lock(mutex_);
    for (; count < end; ++count) {
      const Entry* const entry = Find(chain[count]);
      if (entry == nullptr || entry->lost()) return count;
    }
  }
  return count;
}

bool PrefixIndex::Insert(const NamedColumn& column, const PrefixSpace& space) {
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
  entry->space = parent != nullptr ? parent->space : std::make_shared<const PrefixSpace>(space);
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
  if (journal_) by_record_.emplace(0, entry.get());
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

uint64_t PrefixIndex::DropStored() {
  MutexLock lock(mutex_);
  uint64_t dropped = 0;
  int looks = 0;
  for (auto at = leaves_.begin();
       at != leaves_.end() && dropped < kDropped && looks < kStoredSearch; ++looks) {
    Entry* entry = at->second;
    ++at;
    // With those before it that nothing else continues: they are the next.
    while (entry != nullptr && entry->first_child == nullptr && entry->unclaimed() &&
           entry->stored_in_part() && dropped < kDropped) {
      Entry* const parent = entry->parent;
      Remove(*entry);
      ++dropped;
      entry = parent;
    }
  }
  return dropped;
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
  if (journal_) {
    if (leaf.recorded != 0) gone_.push_back(leaf.digest);
    SetRecorded(leaf, 0);
    by_record_.erase({0, &leaf});
  }
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

void PrefixIndex::StartJournal() {
  MutexLock lock(mutex_);
  PASSBAND_CHECK(entries_.empty());
  journal_ = true;
}

void PrefixIndex::SetRecorded(Entry& entry, uint64_t generation) {
  by_record_.erase({entry.recorded, &entry});
  by_record_.emplace(generation, &entry);
  const int change = (generation != 0 ? 1 : 0) - (entry.recorded != 0 ? 1 : 0);
  recorded_ += change;
  if (entry.parent != nullptr) entry.parent->recorded_children += change;
  entry.recorded = generation;
}

bool PrefixIndex::NoteRecord(const PrefixRecord& record) {
  MutexLock lock(mutex_);
  Entry* const entry = Find(record.digest);
  if (entry == nullptr) return false;
  if (AddressesOf(*entry) == record.blocks) SetRecorded(*entry, OldestOf(record.blocks));
  return true;
}

// Where its blocks are in the tier; nothing when one is not.
std::vector<BlockAddress> PrefixIndex::AddressesOf(const Entry& entry) const {
  std::vector<BlockAddress> addresses;
  for (const Block* block : entry.blocks) {
    const BlockAddress address = block->copy();
    if (address.generation <= home_.forgotten_generation()) return {};
    addresses.push_back(address);
  }
  return addresses;
}

bool PrefixIndex::Take(Entry& entry, Stored& out) {
  const bool reachable = entry.parent == nullptr || entry.parent->recorded != 0;
  std::vector<BlockAddress> blocks = AddressesOf(entry);
  const bool stored = !blocks.empty();
  if (!stored || !reachable) {
    if (stored || entry.recorded_children > 0) AddLacking(entry, out.lacking);
    return false;
  }
  SetRecorded(entry, OldestOf(blocks));
  out.columns.push_back({.digest = entry.digest,
                         .first = entry.parent == nullptr,
                         .parent = entry.parent == nullptr ? PrefixDigest{} : entry.parent->digest,
                         .tenant = entry.space->tenant,
                         .model = entry.space->model,
                         .blocks = std::move(blocks)});
  return true;
}

std::vector<PrefixRecord> PrefixIndex::TakeStored(std::span<const PrefixDigest> chain) {
  Stored out;
  for (size_t begin = 0; begin < chain.size(); begin += kPiece) {
    MutexLock lock(mutex_);
    for (const PrefixDigest& digest :
         chain.subspan(begin, std::min(kPiece, chain.size() - begin))) {
      Entry* const entry = Find(digest);
      if (entry == nullptr || (entry->recorded == 0 && !Take(*entry, out))) return out.columns;
    }
  }
  return out.columns;
}

PrefixIndex::Stored PrefixIndex::TakeStored() {
  Stored out;
  std::vector<PrefixDigest> next;  // those that continue what was just taken
  std::pair<uint64_t, Entry*> last{0, nullptr};
  for (bool more = true; more || !next.empty();) {
    MutexLock lock(mutex_);
    if (last.second == nullptr) ++rounds_;
    for (size_t looks = 0; looks < kPiece; ++looks) {
      Entry* entry = nullptr;
      if (!next.empty()) {
        entry = Find(next.back());
        next.pop_back();
        if (entry == nullptr || entry->recorded != 0) continue;
      } else {
        const auto at = by_record_.upper_bound(last);
        more = at != by_record_.end() && at->first == 0;
        if (!more) break;
        last = *at;
        entry = at->second;
      }
      if (entry->lost()) {
        RemoveAll(*entry);
      } else if (Take(*entry, out)) {
        for (const Entry* child = entry->first_child; child; child = child->next_sibling) {
          next.push_back(child->digest);
        }
      }
    }
  }
  return out;
}

// Of it and those before it, up to one that is recorded, or was come past already.
void PrefixIndex::AddLacking(Entry& entry, std::vector<BlockRef>& out) {
  for (Entry* at = &entry; at != nullptr && at->recorded == 0 && at->looked_at != rounds_;
       at = at->parent) {
    if (out.size() >= kLacking) return;
    at->looked_at = rounds_;
    for (Block* block : at->blocks) {
      if (block->frozen() && !block->clean()) out.emplace_back(block);
    }
  }
}

std::vector<PrefixDigest> PrefixIndex::TakeGone() {
  MutexLock lock(mutex_);
  std::vector<PrefixDigest> gone = std::exchange(gone_, {});
  std::erase_if(gone, [this](const PrefixDigest& digest) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const Entry* const entry = Find(digest);
    return entry != nullptr && entry->recorded != 0;
  });
  return gone;
}

void PrefixIndex::ForgetRecords(uint64_t generation) {
  for (bool more = true; more;) {
    MutexLock lock(mutex_);
    for (size_t looks = 0; looks < kPiece && more; ++looks) {
      const auto oldest = by_record_.upper_bound({1, nullptr});
      more = oldest != by_record_.end() && oldest->first <= generation;
      if (!more) break;
      Entry& entry = *oldest->second;
      gone_.push_back(entry.digest);
      SetRecorded(entry, 0);
      if (entry.lost()) RemoveAll(entry);
    }
  }
}

uint64_t PrefixIndex::recorded() const {
  MutexLock lock(mutex_);
  return recorded_;
}

}  // namespace passband
