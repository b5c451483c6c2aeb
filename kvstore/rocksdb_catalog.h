// RocksDbCatalog: the catalog in the spill database. Every record is kept twice, in
// families that share no file, and read from the copy that is whole.
//
// When the device refuses a batch, RocksDB has it all the same (log_repair.h): Mend takes it back
// once the device answers, and until then nothing else is written.
//
// Threads    safe; batches are written one at a time.
// Ownership  shares the families; the database must outlive it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/mutex.h"
#include "base/status.h"
#include "kvstore/catalog.h"
#include "kvstore/log_repair.h"
#include "kvstore/log_room.h"
#include "kvstore/write_behind.h"

namespace rocksdb {
class ColumnFamilyHandle;
class DB;
class WriteBatch;
}  // namespace rocksdb

namespace passband {

class RocksDbCatalog final : public Catalog {
 public:
  using Family = std::shared_ptr<rocksdb::ColumnFamilyHandle>;

  // `room` and `repair` are those of the database's logs; `write_behind` must outlive this.
  RocksDbCatalog(rocksdb::DB& db, Family a, Family b, std::shared_ptr<LogRoom> room,
                 std::shared_ptr<LogRepair> repair, WriteBehind& write_behind);
  ~RocksDbCatalog() override;

  Status Write(const CatalogBatch& batch) override;
  StatusOr<uint64_t> ForEach(RecordKind kind, const Visit& visit) const override;

  // A number of the database itself, 0 when it was never written.
  StatusOr<uint64_t> ReadNumber(std::string_view name) const;
  Status WriteNumber(std::string_view name, uint64_t number);

  // Once RocksDB takes writes: puts the log in order and takes back what was refused. OK: all
  // that Write said is so.
  Status Mend();

 private:
  // A batch that was refused, and how things stood before.
  struct Refused;

  Status Commit(rocksdb::WriteBatch& changes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  Status TakeBack(Refused& refused) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);

  rocksdb::DB& db_;
  const Family a_;
  const Family b_;
  const std::shared_ptr<LogRoom> room_;
  const std::shared_ptr<LogRepair> repair_;
  WriteBehind& write_behind_;
  Mutex write_mutex_;
  std::unique_ptr<Refused> refused_ ABSL_GUARDED_BY(write_mutex_);
};

}  // namespace passband
