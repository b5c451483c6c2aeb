// SequenceCensus: which sealed sequences a server would bring back from a spill directory, and
// how much of each, and which columns of the prefix index; judged by the records in it and by the
// blocks that are whole.
//
//     SequenceCensus census;
//     VerifySpill({.record = census.Add...}) -> report -> census.Count(report)
//
// It takes records as CatalogLoader does: one that cannot be read costs what it names, nothing
// else.
//
// Units    tokens.
// Threads  not safe.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "kvstore/catalog.h"
#include "kvstore/catalog_records.h"
#include "kvstore/spill_verify.h"

namespace passband {

// A sequence that does not come back as it was sealed.
struct HurtSequence {
  uint64_t id = 0;
  std::string tenant;
  uint64_t tokens = 0;
  uint64_t lost_tokens = 0;  // all of them: it does not come back
  std::string why;
};

struct CensusReport {
  uint64_t unreadable_records = 0;  // whole as bytes, yet no record that this program reads
  uint64_t models = 0;
  uint64_t profiles = 0;
  uint64_t whole = 0;             // sequences
  uint64_t damaged = 0;           // come back, and lack rows
  uint64_t lost = 0;              // do not come back
  uint64_t prefixes = 0;          // columns of the prefix index that come back whole
  uint64_t shared_prefixes = 0;   // of these, columns of sequences that come back as well
  uint64_t damaged_prefixes = 0;  // lack a block that should be there
  // Their blocks are forgotten, or the column before them: records that a server erases.
  uint64_t stale_prefixes = 0;
  uint64_t missing_blocks = 0;     // that records name
  uint64_t orphaned_blocks = 0;    // whole ones that no record names: their space is free to take
  std::vector<HurtSequence> hurt;  // the first of them
  std::vector<std::string> findings;  // of records, the first of them

  bool ok() const { return unreadable_records + damaged + lost + damaged_prefixes == 0; }
};

class SequenceCensus {
 public:
  // A record that is whole. Kinds may come in any order.
  void Add(RecordKind kind, std::string_view key, std::string_view value);

  CensusReport Count(const SpillReport& spill) const;

 private:
  void AddFact(std::string_view key, std::string_view value);
  void AddSequence(std::string_view key, std::string_view value);
  void Unreadable(const Status& why);
  // The names of columns of sequences that come back.
  using Names = std::set<PrefixDigest>;
  void CountPrefixes(const SpillReport& spill, const Names& sequences, CensusReport& report) const;
  bool Forgotten(const PrefixRecord& prefix, const SpillReport& spill) const;
  // Counts the blocks that records name.
  void CountBlocks(const SpillReport& spill, CensusReport& report) const;
  // Of a sequence that is served, the tokens that lack a block in a layer.
  uint64_t LostTokens(const SequenceRecord& sequence, const SpillReport& spill) const;
  bool Holds(const std::vector<BlockAddress>& column, const SpillReport& spill) const;

  CensusReport so_far_;
  std::map<std::string, uint32_t> layers_;  // of models, by fingerprint
  ColumnRecords columns_;
  std::vector<SequenceRecord> sequences_;  // without their token ids
  std::vector<PrefixRecord> prefixes_;
  uint64_t forgotten_ = 0;  // generations up to here
};

}  // namespace passband
