#include "kvstore/rocksdb_catalog.h"

#include <rocksdb/db.h>

#include <charconv>
#include <utility>

#include "kvstore/record_walk.h"
#include "kvstore/rocksdb_support.h"
#include "kvstore/spill_format.h"

namespace passband {

RocksDbCatalog::RocksDbCatalog(rocksdb::DB& db, Family a, Family b, std::shared_ptr<LogRoom> room,
                               WriteBehind& write_behind)
    : db_(db),
      a_(std::move(a)),
      b_(std::move(b)),
      room_(std::move(room)),
      write_behind_(write_behind) {}

Status RocksDbCatalog::Write(const CatalogBatch& batch) {
  rocksdb::WriteBatch changes;
  for (const CatalogBatch::Change& change : batch.changes) {
    const std::string key = MakeRecordKey(change.kind, change.key);
    const std::string value = change.erase ? std::string() : MakeRecordValue(key, change.value);
    for (const Family& family : {a_, b_}) {
      const rocksdb::Status added =
          change.erase ? changes.Delete(family.get(), key) : changes.Put(family.get(), key, value);
      PASSBAND_RETURN_IF_ERROR(FromRocksDb(added, "a batch of records"));
    }
  }
  PASSBAND_ASSIGN_OR_RETURN(const LogRoom::Hold room, room_->Reserve(changes.GetDataSize()));
  rocksdb::WriteOptions options;
  options.sync = true;
  options.no_slowdown = true;
  const rocksdb::Status written = db_.Write(options, &changes);
  const Status status = FromRocksDb(written, "writing records");
  if (IsStopped(written)) write_behind_.NoteRefusal(status);
  return status;
}

StatusOr<uint64_t> RocksDbCatalog::ForEach(RecordKind kind, const Visit& visit) const {
  const std::string begin(1, static_cast<char>(kind));
  const std::string end(1, static_cast<char>(static_cast<uint8_t>(kind) + 1));
  const auto walk = WalkRecords(
      db_, a_.get(), b_.get(), begin, end,
      [&](std::string_view key, std::string_view value) { visit(key.substr(1), value); });
  PASSBAND_RETURN_IF_ERROR(walk.status());
  return walk->lost;
}

StatusOr<uint64_t> RocksDbCatalog::ReadNumber(std::string_view name) const {
  const std::string key = MakeRecordKey(kInternalRecord, name);
  bool present = false;
  for (const Family& family : {a_, b_}) {
    std::string stored;
    const rocksdb::Status got = db_.Get({}, family.get(), key, &stored);
    if (got.IsNotFound()) continue;
    present = true;
    if (!got.ok()) continue;
    const auto value = CheckRecord(key, stored);
    if (!value.ok()) continue;
    uint64_t number = 0;
    std::from_chars(value->data(), value->data() + value->size(), number);
    return number;
  }
  if (present) return Error(StatusCode::kDataLoss, "record '{}' is damaged", name);
  return 0;
}

Status RocksDbCatalog::WriteNumber(std::string_view name, uint64_t number) {
  CatalogBatch batch;
  batch.Put(kInternalRecord, std::string(name), std::to_string(number));
  return Write(batch);
}

}  // namespace passband
