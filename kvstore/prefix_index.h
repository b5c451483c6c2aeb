// PrefixIndex: finds blocks by the tokens they came from, and gives memory back
// when it is short.
//
// An entry is one column: the blocks of 64 tokens in every layer, named by its
// prefix digest, child of the column before it. The least recently used columns
// go first, those of tenants that have more than their share of RAM before all
// others, and a column never before those that continue it, since without it they
// could not be reached.
//
// Columns stay known when their blocks leave the arena for the tier; one that has a lost
// block is forgotten when it is come across.
//
// With a journal it also knows which columns are recorded, so that somebody can keep their
// records (prefix_recorder.h): a column may be once the tier holds every block of it.
//
// Units      a column is 64 tokens.
// Threads    safe; one mutex, under which blocks may go back to the arena.
// Ownership  holds a claim on every block of its columns.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "kvstore/block.h"
#include "kvstore/block_home.h"
#include "kvstore/catalog_records.h"
#include "kvstore/prefix_chain.h"

namespace passband {

// One block of each layer, in layer order.
using Column = std::vector<BlockRef>;

struct NamedColumn {
  PrefixDigest digest;
  PrefixDigest parent;  // of the column before; unused when `first`
  bool first = false;
  Column blocks;
};

// Whose tokens they are, and what rows were made of them with: a chain never leaves its space.
struct PrefixSpace {
  std::string tenant;
  std::string model;  // fingerprint
};

class PrefixIndex {
 public:
  // `home` must outlive this.
  explicit PrefixIndex(const BlockHome& home) : home_(home) {}
  ~PrefixIndex();
  PrefixIndex(const PrefixIndex&) = delete;
  PrefixIndex& operator=(const PrefixIndex&) = delete;

  // The columns of the longest known prefix of `chain`.
  std::vector<Column> Match(std::span<const PrefixDigest> chain);
  // How many they are; leaves the order of use as it is.
  uint64_t Count(std::span<const PrefixDigest> chain) const;

  // Adds the column; one of that name that is there already stays instead, unless it is lost.
  // False: the column before it is not here, so that nobody would find it.
  bool Insert(const NamedColumn& column, const PrefixSpace& space);

  // Drops the least recently used column that nobody else claims, of a tenant that pays if some
  // search finds one, with whatever continues it; failing that, one of which somebody claims a
  // part. Columns that take no memory stay. Returns how many blocks went; 0 only when no block is merely cached.
  uint64_t EvictOne();
  // Forgets lost columns, as far as they are among the least recently used.
  void DropLost();
  // Forgets columns that nobody else claims and of which the tier holds something, the least
  // recently used first. Returns how many went: none when there are none.
  uint64_t DropStored();

  uint64_t columns() const;

  // --- records of columns. Once, before any column is inserted:
  void StartJournal();
  // True: the column is here. It is recorded, if the record says where it is.
  bool NoteRecord(const PrefixRecord& record);
  // The columns of `chain` that have no record, and that the tier holds with all those before
  // them: they count as recorded.
  std::vector<PrefixRecord> TakeStored(std::span<const PrefixDigest> chain);
  struct Stored {
    std::vector<PrefixRecord> columns;
    // Of columns before others that the tier holds, what it lacks: without it those could not be
    // reached after a restart. Some of it.
    std::vector<BlockRef> lacking;
  };
  // The same of all columns. Those that are lost are forgotten.
  Stored TakeStored();
  // Columns that went since the last call, and are not recorded anew: their records are to go.
  std::vector<PrefixDigest> TakeGone();
  // Columns recorded in a generation up to this one have no record any more.
  void ForgetRecords(uint64_t generation);
  uint64_t recorded() const;

 private:
  struct Entry {
    PrefixDigest digest;
    std::shared_ptr<const PrefixSpace> space;
    Entry* parent = nullptr;
    Entry* first_child = nullptr;
    Entry* previous_sibling = nullptr;
    Entry* next_sibling = nullptr;
    TenantSlot tenant = RamShares::kRest;
    uint64_t used = 0;       // by the index's own count of uses
    uint64_t recorded = 0;   // the oldest generation that its record names; 0: it has none
    uint64_t looked_at = 0;  // in which round of TakeStored
    uint32_t recorded_children = 0;
    std::vector<Block*> blocks;

    bool cached() const;  // every block of it, unless it takes no memory
    bool partly_cached() const;
    bool unclaimed() const;
    bool stored_in_part() const;
    bool lost() const;
  };
  using Entries = std::set<std::pair<uint64_t, Entry*>>;
  using Leaves = Entries;  // by use
  // Digests are uniform already.
  struct FirstBytes {
    size_t operator()(const PrefixDigest& digest) const;
  };

  Entry* Find(const PrefixDigest& digest) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Touch(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddLeaf(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RemoveLeaf(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Forgets a column that nothing continues. Returns how many blocks went.
  uint64_t Remove(Entry& leaf) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // With whatever continues it.
  uint64_t RemoveAll(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The first of these leaves that is cached; `looks` is how many may be looked at.
  uint64_t EvictAmong(const Leaves& leaves, size_t& looks) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t EvictOfPayers() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t EvictInUse() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetRecorded(Entry& entry, uint64_t generation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<BlockAddress> AddressesOf(const Entry& entry) const;
  // True: into `out`. Else, if that is worth it, what it, or what those before it, lack.
  bool Take(Entry& entry, Stored& out) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddLacking(Entry& entry, std::vector<BlockRef>& out) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const BlockHome& home_;
  mutable Mutex mutex_;
  absl::flat_hash_map<PrefixDigest, std::unique_ptr<Entry>, FirstBytes> entries_
      ABSL_GUARDED_BY(mutex_);
  // Columns that nothing continues, the least recently used first; and those of each tenant.
  Leaves leaves_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<TenantSlot, Leaves> leaves_of_ ABSL_GUARDED_BY(mutex_);
  uint64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
  bool journal_ ABSL_GUARDED_BY(mutex_) = false;
  // By the oldest generation that their records name; first those without a record.
  Entries by_record_ ABSL_GUARDED_BY(mutex_);
  uint64_t recorded_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<PrefixDigest> gone_ ABSL_GUARDED_BY(mutex_);
  uint64_t rounds_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace passband
