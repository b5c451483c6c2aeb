// RocksDbCatalog: the catalog in the spill database. Every record is kept twice, in
// families that share no file, and read from the copy that is whole.
//
// Threads    safe.
// Ownership  shares the families; the database must outlive it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "kvstore/catalog.h"
#include "kvstore/log_room.h"
#include "kvstore/write_behind.h"

namespace rocksdb {
class ColumnFamilyHandle;
class DB;
}  // namespace rocksdb

namespace passband {

class RocksDbCatalog final : public Catalog {
 public:
  using Family = std::shared_ptr<rocksdb::ColumnFamilyHandle>;

  // `room` is that of the database's logs; `write_behind` must outlive this.
  RocksDbCatalog(rocksdb::DB& db, Family a, Family b, std::shared_ptr<LogRoom> room,
                 WriteBehind& write_behind);

  Status Write(const CatalogBatch& batch) override;
  StatusOr<uint64_t> ForEach(RecordKind kind, const Visit& visit) const override;

  // A number of the database itself, 0 when it was never written.
  StatusOr<uint64_t> ReadNumber(std::string_view name) const;
  Status WriteNumber(std::string_view name, uint64_t number);

 private:
  rocksdb::DB& db_;
  const Family a_;
  const Family b_;
  const std::shared_ptr<LogRoom> room_;
  WriteBehind& write_behind_;
};

}  // namespace passband
