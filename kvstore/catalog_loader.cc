#include "kvstore/catalog_loader.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "kvstore/prefix_chain.h"

namespace passband {

Status CatalogLoader::Load() {
  PASSBAND_RETURN_IF_ERROR(LoadFacts());
  PASSBAND_RETURN_IF_ERROR(LoadModels());
  PASSBAND_RETURN_IF_ERROR(LoadColumns());
  // A sequence that is left out keeps its blocks.
  parts_.home.KeepCopies(true);
  const Status sequences = LoadSequences();
  columns_.clear();
  blocks_.clear();
  parts_.home.KeepCopies(false);
  PASSBAND_RETURN_IF_ERROR(sequences);
  PASSBAND_RETURN_IF_ERROR(parts_.tier->DropUnclaimed());
  if (counts_.left_out + counts_.damaged == 0) {
    const CatalogBatch unused = ledger_.Sweep();
    if (!unused.changes.empty()) PASSBAND_RETURN_IF_ERROR(parts_.catalog->Write(unused));
  }
  CatalogBatch batch;
  batch.Put(RecordKind::kStore, kIdsKey, Encode(parts_.table.first_id()));
  return parts_.catalog->Write(batch);
}

Status CatalogLoader::LoadFacts() {
  PASSBAND_ASSIGN_OR_RETURN(
      const uint64_t damaged,
      parts_.catalog->ForEach(RecordKind::kStore,
                              [&](std::string_view key, std::string_view value) {
                                const StatusOr<uint64_t> fact = ParseFact(value);
                                if (!fact.ok()) return Damaged(fact.status());
                                if (key == kForgottenKey) parts_.home.Forget(*fact);
                                if (key == kIdsKey) parts_.table.StartAfter(*fact);
                              }));
  counts_.damaged += damaged;
  return OkStatus();
}

Status CatalogLoader::LoadModels() {
  PASSBAND_ASSIGN_OR_RETURN(
      const uint64_t damaged,
      parts_.catalog->ForEach(
          RecordKind::kModel, [&](std::string_view key, std::string_view value) {
            const StatusOr<ModelSpec> model = ParseModel(key, value);
            if (!model.ok()) return Damaged(model.status());
            ledger_.NoteModel(model->fingerprint);
            if (const Status known = parts_.models.Register(*model); !known.ok()) Damaged(known);
          }));
  counts_.damaged += damaged;
  return OkStatus();
}

Status CatalogLoader::LoadColumns() {
  PASSBAND_ASSIGN_OR_RETURN(
      const uint64_t damaged,
      parts_.catalog->ForEach(RecordKind::kColumn,
                              [&](std::string_view key, std::string_view value) {
                                StatusOr<ColumnRecord> column = ParseColumn(key, value);
                                if (!column.ok()) return Damaged(column.status());
                                for (const BlockAddress& address : column->blocks)
                                  parts_.tier->Claim(address);
                                ledger_.NoteColumn(*column);
                                const uint64_t number = column->number;
                                columns_[number] = *std::move(column);
                              }));
  counts_.damaged += damaged;
  return OkStatus();
}

Status CatalogLoader::LoadSequences() {
  PASSBAND_ASSIGN_OR_RETURN(
      const uint64_t damaged,
      parts_.catalog->ForEach(
          RecordKind::kSequence, [&](std::string_view key, std::string_view value) {
            const StatusOr<SequenceRecord> record = ParseSequence(key, value);
            if (!record.ok()) return Damaged(record.status());
            for (const BlockAddress& address : record->tail) parts_.tier->Claim(address);
            parts_.table.StartAfter(record->id);
            const Status restored = Restore(*record);
            if (restored.ok()) return;
            ++counts_.left_out;
            log::Warn("sequence_not_restored", {{"sequence", record->id}, {"why", restored}});
          }));
  counts_.damaged += damaged;
  return OkStatus();
}

Status CatalogLoader::Restore(const SequenceRecord& record) {
  PASSBAND_ASSIGN_OR_RETURN(const ModelSpec model, parts_.models.Find(record.model));
  const KvShape& shape = model.shape;
  PASSBAND_RETURN_IF_ERROR(CheckServable(record, shape.layers, columns_));
  const std::shared_ptr<TenantAccount> account = parts_.tenants.Find(record.tenant);
  std::vector<Column> columns;
  std::vector<PrefixDigest> chain;
  for (const uint64_t number : record.columns) {
    const ColumnRecord& column = columns_.at(number);
    columns.push_back(ColumnOf(shape, column.blocks, account->ram_slot()));
    if (column.named && chain.size() + 1 == columns.size()) chain.push_back(column.digest);
  }
  const uint64_t whole = columns.size();
  if (!record.tail.empty()) columns.push_back(ColumnOf(shape, record.tail, account->ram_slot()));
  Sequence::Identity identity{.id = SequenceId(record.id),
                              .tenant = record.tenant,
                              .model = record.model,
                              .shape = shape,
                              .owner = OwnerId(),
                              .max_tokens = record.max_tokens,
                              .root = PrefixRoot(record.model, record.tenant),
                              .account = account};
  PASSBAND_ASSIGN_OR_RETURN(SequenceContents contents,
                            SequenceContents::FromColumns(shape, account, columns, record.committed,
                                                          OverQuota::kAllowed));
  contents.token_ids = record.ids;
  chain.resize(std::min<size_t>(chain.size(), record.ids.size() / kBlockTokens));
  const PrefixDigest parent = chain.empty() ? identity.root : chain.back();
  ExtendPrefixChain(parent, std::span(record.ids).subspan(chain.size() * kBlockTokens), chain);
  contents.chain = std::move(chain);
  contents.indexed = std::min<uint64_t>(whole, contents.chain.size());
  Index(contents);
  PASSBAND_RETURN_IF_ERROR(parts_.table.Insert(
      std::make_shared<Sequence>(std::move(identity), std::move(contents), parts_.clock,
                                 /*sealed=*/true),
      OverQuota::kAllowed));
  ledger_.NoteSequence(record);
  ++counts_.sequences;
  return OkStatus();
}

Column CatalogLoader::ColumnOf(const KvShape& shape, const std::vector<BlockAddress>& addresses,
                               TenantSlot tenant) {
  Column column;
  for (const BlockAddress& address : addresses) {
    BlockRef& block = blocks_[address];
    if (!block) block = parts_.home.Adopt(shape.block_bytes(), shape.planes(), address, tenant);
    column.push_back(block);
  }
  return column;
}

void CatalogLoader::Index(const SequenceContents& contents) {
  for (uint64_t i = 0; i < contents.indexed; ++i) {
    if (!parts_.index.Insert(contents.NamedColumnAt(i))) return;
  }
}

void CatalogLoader::Damaged(const Status& why) {
  ++counts_.damaged;
  log::Warn("record_damaged", {{"why", why}});
}

}  // namespace passband
