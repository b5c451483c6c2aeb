// ColumnLedger: which sequences and columns the catalog holds, and which columns which
// sequences are made of; it turns changes into batches.
//
//     Add / Remove, once or more -> batch() -> Apply once it is written, else Revert
//
// Adding a sequence that the catalog holds puts its record and columns in place of the former.
//
// Threads  not safe.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "kvstore/catalog.h"
#include "kvstore/catalog_records.h"
#include "kvstore/types.h"

namespace passband {

// A sealed sequence, all of whose blocks are on the device.
struct DurableSequence {
  SequenceRecord record;              // but for its columns
  std::vector<ColumnRecord> columns;  // but for their numbers
};

class ColumnLedger {
 public:
  // Of the catalog, when it is read: as they are recorded.
  void NoteColumn(const ColumnRecord& column);
  void NoteSequence(const SequenceRecord& sequence);
  void NoteModel(const std::string& fingerprint) { models_.insert(fingerprint); }
  // Erases the columns that no sequence is made of.
  CatalogBatch Sweep();

  // The catalog does: not what is in the batch only.
  bool Holds(SequenceId id) const {
    return sequences_.contains(id.value()) && !added_.contains(id.value());
  }
  // The sequences whose records name blocks of generations after `after`, up to `last`.
  std::vector<SequenceId> Naming(uint64_t after, uint64_t last) const;
  // Where the catalog says that the sequence's last blocks are, by layer.
  std::vector<BlockAddress> TailOf(SequenceId id) const;

  void Add(const ModelSpec& model, DurableSequence sequence);
  void Remove(SequenceId id);
  const CatalogBatch& batch() const { return batch_; }
  void Apply();
  void Revert();

 private:
  struct Column {
    std::vector<BlockAddress> blocks;
    uint64_t uses = 0;
  };
  struct Recorded {
    std::vector<uint64_t> columns;
    std::vector<BlockAddress> tail;
  };

  uint64_t Use(ColumnRecord& column);
  // Takes the former columns of a sequence out of the batch's result.
  void Retire(uint64_t id, Recorded recorded);
  void Unuse(uint64_t number);

  std::set<std::string> models_;
  std::map<uint64_t, Recorded> sequences_;  // by id
  absl::flat_hash_map<uint64_t, Column> columns_;
  std::map<std::vector<BlockAddress>, uint64_t> numbers_;
  uint64_t last_number_ = 0;

  CatalogBatch batch_;
  std::set<std::string> added_models_;
  std::set<uint64_t> added_;
  std::map<uint64_t, Recorded> removed_;
};

}  // namespace passband
