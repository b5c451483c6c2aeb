// CatalogLoader: what the catalog says, made into models, sequences and prefixes again.
//
// Reads records only: the bytes of blocks stay where they are until they are asked for. A
// record that cannot be read, or a sequence that cannot be served, costs itself and is counted;
// nothing of it is erased.
//
// Threads    one, before the store is used.
// Ownership  what it is created with must outlive it.
// Errors     those of Catalog and of Tier::DropUnclaimed
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "base/status.h"
#include "kvstore/block_home.h"
#include "kvstore/catalog.h"
#include "kvstore/catalog_records.h"
#include "kvstore/column_ledger.h"
#include "kvstore/model_registry.h"
#include "kvstore/prefix_index.h"
#include "kvstore/sequence_table.h"
#include "kvstore/tenant_table.h"

namespace passband {

class CatalogLoader {
 public:
  struct Parts {
    Catalog* catalog;
    Tier* tier;
    BlockHome& home;
    PrefixIndex& index;
    ModelRegistry& models;
    TenantTable& tenants;
    SequenceTable& table;
    const Clock& clock;
  };
  struct Counts {
    uint64_t sequences = 0;
    uint64_t left_out = 0;  // sequences
    uint64_t prefixes = 0;  // columns that no sequence brought back
    uint64_t damaged = 0;   // records
  };

  explicit CatalogLoader(const Parts& parts) : parts_(parts) {}

  Status Load();
  // Of Load.
  ColumnLedger TakeLedger() { return std::move(ledger_); }
  const Counts& counts() const { return counts_; }

 private:
  Status LoadFacts();
  Status LoadModels();
  Status LoadColumns();
  Status LoadSequences();
  // A sequence that can be served is in the table afterwards.
  Status Restore(const SequenceRecord& record);
  // The same block for the same address: a block may be in several columns, and a last block
  // of one sequence be a whole one of another.
  Column ColumnOf(const KvShape& shape, const std::vector<BlockAddress>& addresses,
                  TenantSlot tenant);
  void Index(const Sequence::Identity& identity, const SequenceContents& contents);
  // The columns of the prefix index that are recorded. Records that lead nowhere are erased: the
  // column is of no use without those before it, or its blocks are gone.
  Status LoadPrefixes();
  using PrefixRecords = std::map<PrefixDigest, PrefixRecord>;
  StatusOr<PrefixRecords> ReadPrefixes();
  // True: the column is in the index.
  bool RestorePrefix(const PrefixRecord& record);
  Status ErasePrefixes(const std::vector<PrefixDigest>& names);
  void Damaged(const Status& why);

  const Parts parts_;
  ColumnLedger ledger_;
  Counts counts_;
  ColumnRecords columns_;
  std::map<BlockAddress, BlockRef> blocks_;
};

}  // namespace passband
