#include "kvstore/catalog_loader.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/log.h"
#include "kvstore/prefix_chain.h"

namespace passband {
namespace {

// Records that are erased together.
constexpr size_t kBatch = 4096;

}  // namespace

Status CatalogLoader::Load() {
  parts_.index.StartJournal();
  PASSBAND_RETURN_IF_ERROR(LoadFacts());
  PASSBAND_RETURN_IF_ERROR(LoadModels());
  PASSBAND_RETURN_IF_ERROR(LoadColumns());
  // A sequence that is left out keeps its blocks.
  parts_.home.KeepCopies(true);
  Status loaded = LoadSequences();
  if (loaded.ok()) loaded = LoadPrefixes();
  columns_.clear();
  blocks_.clear();
  parts_.home.KeepCopies(false);
  PASSBAND_RETURN_IF_ERROR(loaded);
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
  Index(identity, contents);
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

void CatalogLoader::Index(const Sequence::Identity& identity, const SequenceContents& contents) {
  const PrefixSpace space{.tenant = identity.tenant, .model = identity.model};
  for (uint64_t i = 0; i < contents.indexed; ++i) {
    if (!parts_.index.Insert(contents.NamedColumnAt(i), space)) return;
  }
}

StatusOr<CatalogLoader::PrefixRecords> CatalogLoader::ReadPrefixes() {
  PrefixRecords records;
  PASSBAND_ASSIGN_OR_RETURN(
      const uint64_t damaged,
      parts_.catalog->ForEach(RecordKind::kPrefix,
                              [&](std::string_view key, std::string_view value) {
                                StatusOr<PrefixRecord> record = ParsePrefix(key, value);
                                if (!record.ok()) return Damaged(record.status());
                                const PrefixDigest digest = record->digest;
                                records[digest] = *std::move(record);
                              }));
  counts_.damaged += damaged;
  return records;
}

Status CatalogLoader::LoadPrefixes() {
  PASSBAND_ASSIGN_OR_RETURN(const PrefixRecords records, ReadPrefixes());
  std::multimap<PrefixDigest, const PrefixRecord*> continued;  // by the column before
  std::vector<const PrefixRecord*> next;
  for (const auto& [digest, record] : records) {
    // A column whose record is damaged may be a sequence's.
    if (record.first || !records.contains(record.parent)) {
      next.push_back(&record);
    } else {
      continued.emplace(record.parent, &record);
    }
  }
  std::set<PrefixDigest> found;
  while (!next.empty()) {
    const PrefixRecord& record = *next.back();
    next.pop_back();
    if (!RestorePrefix(record)) continue;
    found.insert(record.digest);
    const auto [begin, end] = continued.equal_range(record.digest);
    for (auto at = begin; at != end; ++at) next.push_back(at->second);
  }
  std::vector<PrefixDigest> useless;
  for (const auto& [digest, record] : records) {
    if (!found.contains(digest)) useless.push_back(digest);
  }
  return ErasePrefixes(useless);
}

bool CatalogLoader::RestorePrefix(const PrefixRecord& record) {
  if (parts_.index.NoteRecord(record)) return true;
  const StatusOr<ModelSpec> model = parts_.models.Find(record.model);
  if (!model.ok() || model->shape.layers != record.blocks.size()) return false;
  const bool held = std::ranges::all_of(record.blocks, [this](const BlockAddress& address) {
    return address.generation > parts_.home.forgotten_generation() && parts_.tier->MayHold(address);
  });
  if (!held) return false;
  NamedColumn column{
      .digest = record.digest, .parent = record.parent, .first = record.first, .blocks = {}};
  const std::shared_ptr<TenantAccount> account = parts_.tenants.Find(record.tenant);
  column.blocks = ColumnOf(model->shape, record.blocks, account->ram_slot());
  if (!parts_.index.Insert(column, {.tenant = record.tenant, .model = record.model})) return false;
  for (const BlockAddress& address : record.blocks) parts_.tier->Claim(address);
  parts_.index.NoteRecord(record);
  ++counts_.prefixes;
  return true;
}

Status CatalogLoader::ErasePrefixes(const std::vector<PrefixDigest>& names) {
  for (size_t begin = 0; begin < names.size(); begin += kBatch) {
    CatalogBatch batch;
    for (size_t i = begin; i < std::min(begin + kBatch, names.size()); ++i) {
      batch.Erase(RecordKind::kPrefix, DigestKey(names[i]));
    }
    PASSBAND_RETURN_IF_ERROR(parts_.catalog->Write(batch));
  }
  return OkStatus();
}

void CatalogLoader::Damaged(const Status& why) {
  ++counts_.damaged;
  log::Warn("record_damaged", {{"why", why}});
}

}  // namespace passband
