#include "kvstore/column_ledger.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"

namespace passband {

void ColumnLedger::NoteColumn(const ColumnRecord& column) {
  columns_[column.number].blocks = column.blocks;
  numbers_[column.blocks] = column.number;
  last_number_ = std::max(last_number_, column.number);
}

void ColumnLedger::NoteSequence(const SequenceRecord& sequence) {
  for (const uint64_t number : sequence.columns) ++columns_.at(number).uses;
  sequences_[sequence.id] = {.columns = sequence.columns, .tail = sequence.tail};
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
  if (added) columns_[++last_number_].blocks = column.blocks;
  column.number = at->second;
  Column& used = columns_.at(column.number);
  // Without a use it may be erased earlier in the batch.
  if (used.uses++ == 0) {
    batch_.Put(RecordKind::kColumn, NumberKey(column.number), Encode(column));
  }
  return column.number;
}

void ColumnLedger::Unuse(uint64_t number) {
  const auto found = columns_.find(number);
  if (--found->second.uses > 0) return;
  numbers_.erase(found->second.blocks);
  columns_.erase(found);
}

void ColumnLedger::Add(const ModelSpec& model, DurableSequence sequence) {
  const uint64_t id = sequence.record.id;
  if (added_.contains(id)) return;
  if (!models_.contains(model.fingerprint) && added_models_.insert(model.fingerprint).second) {
    batch_.Put(RecordKind::kModel, model.fingerprint, Encode(model));
  }
  std::vector<uint64_t>& columns = sequence.record.columns;
  for (ColumnRecord& column : sequence.columns) columns.push_back(Use(column));
  const auto former = sequences_.find(id);
  // After Use: what both are made of stays.
  if (former != sequences_.end()) Retire(id, std::move(former->second));
  batch_.Put(RecordKind::kSequence, NumberKey(id), Encode(sequence.record));
  added_.insert(id);
  sequences_[id] = {.columns = std::move(columns), .tail = std::move(sequence.record.tail)};
}

void ColumnLedger::Retire(uint64_t id, Recorded recorded) {
  for (const uint64_t number : recorded.columns) {
    if (--columns_.at(number).uses == 0) batch_.Erase(RecordKind::kColumn, NumberKey(number));
  }
  removed_.emplace(id, std::move(recorded));
}

void ColumnLedger::Remove(SequenceId id) {
  const auto found = sequences_.find(id.value());
  if (found == sequences_.end()) return;
  batch_.Erase(RecordKind::kSequence, NumberKey(id.value()));
  Retire(found->first, std::move(found->second));
  sequences_.erase(found);
}

std::vector<SequenceId> ColumnLedger::Naming(uint64_t after, uint64_t last) const {
  const auto names = [&](const std::vector<BlockAddress>& blocks) {
    return std::any_of(blocks.begin(), blocks.end(), [&](const BlockAddress& address) {
      return address.generation > after && address.generation <= last;
    });
  };
  absl::flat_hash_set<uint64_t> columns;
  for (const auto& [number, column] : columns_) {
    if (names(column.blocks)) columns.insert(number);
  }
  std::vector<SequenceId> ids;
  for (const auto& [id, recorded] : sequences_) {
    const bool one = names(recorded.tail) ||
                     std::any_of(recorded.columns.begin(), recorded.columns.end(),
                                 [&](uint64_t number) { return columns.contains(number); });
    if (one) ids.emplace_back(id);
  }
  return ids;
}

std::vector<BlockAddress> ColumnLedger::TailOf(SequenceId id) const {
  const auto found = sequences_.find(id.value());
  return found == sequences_.end() ? std::vector<BlockAddress>() : found->second.tail;
}

void ColumnLedger::Apply() {
  models_.merge(added_models_);
  for (const auto& [id, recorded] : removed_) {
    for (const uint64_t number : recorded.columns) {
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
  for (const auto& [id, recorded] : removed_) {
    for (const uint64_t number : recorded.columns) ++columns_.at(number).uses;
  }
  for (const uint64_t id : added_) {
    for (const uint64_t number : sequences_.at(id).columns) Unuse(number);
    sequences_.erase(id);
  }
  sequences_.merge(removed_);
  removed_.clear();
  added_models_.clear();
  added_.clear();
  batch_ = {};
}

}  // namespace passband
