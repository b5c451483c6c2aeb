#include "kvstore/rocksdb_catalog.h"

#include <rocksdb/db.h>
#include <rocksdb/snapshot.h>

#include <charconv>
#include <utility>
#include <vector>

#include "kvstore/record_walk.h"
#include "kvstore/rocksdb_support.h"
#include "kvstore/spill_format.h"

namespace passband {

struct RocksDbCatalog::Refused {
  explicit Refused(rocksdb::DB& db) : before(&db) {}

  std::vector<std::string> keys;
  rocksdb::ManagedSnapshot before;
};

RocksDbCatalog::RocksDbCatalog(rocksdb::DB& db, Family a, Family b, std::shared_ptr<LogRoom> room,
                               std::shared_ptr<LogRepair> repair, WriteBehind& write_behind)
    : db_(db),
      a_(std::move(a)),
      b_(std::move(b)),
      room_(std::move(room)),
      repair_(std::move(repair)),
      write_behind_(write_behind) {}
RocksDbCatalog::~RocksDbCatalog() = default;

Status RocksDbCatalog::Write(const CatalogBatch& batch) {
  MutexLock lock(write_mutex_);
  if (refused_ != nullptr) {
    const Status error = write_behind_.error();
    return error.ok() ? Error(StatusCode::kUnavailable, "records that were refused are taken back")
                      : error;
  }
  auto before = std::make_unique<Refused>(db_);
  rocksdb::WriteBatch changes;
  for (const CatalogBatch::Change& change : batch.changes) {
    const std::string key = MakeRecordKey(change.kind, change.key);
    const std::string value = change.erase ? std::string() : MakeRecordValue(key, change.value);
    for (const Family& family : {a_, b_}) {
      const rocksdb::Status added =
          change.erase ? changes.Delete(family.get(), key) : changes.Put(family.get(), key, value);
      PASSBAND_RETURN_IF_ERROR(FromRocksDb(added, "a batch of records"));
    }
    before->keys.push_back(key);
  }
  Status status = Commit(changes);
  if (!repair_->error().ok()) refused_ = std::move(before);
  return status;
}

Status RocksDbCatalog::Commit(rocksdb::WriteBatch& changes) {
  PASSBAND_ASSIGN_OR_RETURN(const LogRoom::Hold room, room_->Reserve(changes.GetDataSize()));
  rocksdb::WriteOptions options;
  options.sync = true;
  options.no_slowdown = true;
  const rocksdb::Status written = db_.Write(options, &changes);
  const Status status = FromRocksDb(written, "writing records");
  if (IsStopped(written)) write_behind_.NoteRefusal(status);
  return status.ok() ? FromRocksDb(repair_->error(), "writing records") : status;
}

Status RocksDbCatalog::Mend() {
  MutexLock lock(write_mutex_);
  PASSBAND_RETURN_IF_ERROR(FromRocksDb(repair_->Retry(), "writing records again"));
  if (refused_ == nullptr) return OkStatus();
  PASSBAND_RETURN_IF_ERROR(TakeBack(*refused_));
  refused_.reset();
  return OkStatus();
}

Status RocksDbCatalog::TakeBack(Refused& refused) {
  rocksdb::ReadOptions before;
  before.snapshot = refused.before.snapshot();
  rocksdb::WriteBatch changes;
  for (const std::string& key : refused.keys) {
    for (const Family& family : {a_, b_}) {
      std::string stored;
      const rocksdb::Status got = db_.Get(before, family.get(), key, &stored);
      if (!got.ok() && !got.IsNotFound()) return FromRocksDb(got, "reading a record");
      const rocksdb::Status added =
          got.ok() ? changes.Put(family.get(), key, stored) : changes.Delete(family.get(), key);
      PASSBAND_RETURN_IF_ERROR(FromRocksDb(added, "a batch of records"));
    }
  }
  return Commit(changes);
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
