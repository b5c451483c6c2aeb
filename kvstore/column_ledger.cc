#include "kvstore/column_ledger.h"

#include <algorithm>
#include <utility>

namespace passband {

void ColumnLedger::NoteColumn(const ColumnRecord& column) {
  columns_[column.number].blocks = column.blocks;
  numbers_[column.blocks] = column.number;
  last_number_ = std::max(last_number_, column.number);
}

void ColumnLedger::NoteSequence(const SequenceRecord& sequence) {
  for (const uint64_t number : sequence.columns) ++columns_.at(number).uses;
  sequences_[sequence.id] = sequence.columns;
}

CatalogBatch ColumnLedger::Sweep() {
  CatalogBatch batch;
  std::vector<uint64_t> unused;
  for (const auto& [number, column] : columns_) {
    if (column.uses == 0) unused.push_back(number);
  }
  for (const uint64_t number : unused) {
    batch.Erase(RecordKind::kColumn, NumberKey(number));
    const auto found = columns_.find(number);
    numbers_.erase(found->second.blocks);
    columns_.erase(found);
  }
  return batch;
}

uint64_t ColumnLedger::Use(ColumnRecord& column) {
  const auto [at, added] = numbers_.emplace(column.blocks, last_number_ + 1);
  if (added) {
    column.number = ++last_number_;
    columns_[column.number].blocks = column.blocks;
    batch_.Put(RecordKind::kColumn, NumberKey(column.number), Encode(column));
  }
  ++columns_.at(at->second).uses;
  return at->second;
}

void ColumnLedger::Unuse(uint64_t number) {
  const auto found = columns_.find(number);
  if (--found->second.uses > 0) return;
  numbers_.erase(found->second.blocks);
  columns_.erase(found);
}

void ColumnLedger::Add(const ModelSpec& model, DurableSequence sequence) {
  if (sequences_.contains(sequence.record.id)) return;
  if (!models_.contains(model.fingerprint) && added_models_.insert(model.fingerprint).second) {
    batch_.Put(RecordKind::kModel, model.fingerprint, Encode(model));
  }
  std::vector<uint64_t>& columns = sequence.record.columns;
  for (ColumnRecord& column : sequence.columns) columns.push_back(Use(column));
  batch_.Put(RecordKind::kSequence, NumberKey(sequence.record.id), Encode(sequence.record));
  added_.insert(sequence.record.id);
  sequences_[sequence.record.id] = std::move(columns);
}

void ColumnLedger::Remove(SequenceId id) {
  const auto found = sequences_.find(id.value());
  if (found == sequences_.end()) return;
  batch_.Erase(RecordKind::kSequence, NumberKey(id.value()));
  for (const uint64_t number : found->second) {
    if (--columns_.at(number).uses == 0) batch_.Erase(RecordKind::kColumn, NumberKey(number));
  }
  removed_.insert(sequences_.extract(found));
}

void ColumnLedger::Apply() {
  models_.merge(added_models_);
  for (const auto& [id, columns] : removed_) {
    for (const uint64_t number : columns) {
      const auto found = columns_.find(number);
      if (found == columns_.end() || found->second.uses > 0) continue;
      numbers_.erase(found->second.blocks);
      columns_.erase(found);
    }
  }
  removed_.clear();
  added_models_.clear();
  added_.clear();
  batch_ = {};
}

void ColumnLedger::Revert() {
  for (const uint64_t id : added_) {
    for (const uint64_t number : sequences_.at(id)) Unuse(number);
    sequences_.erase(id);
  }
  for (const auto& [id, columns] : removed_) {
    for (const uint64_t number : columns) ++columns_.at(number).uses;
  }
  sequences_.merge(removed_);
  removed_.clear();
  added_models_.clear();
  added_.clear();
  batch_ = {};
}

}  // namespace passband
