// RocksDB as Passband uses it: statuses, options, log and events. The one place that says
// how the database is set up, and why.
//
// Threads    functions of their arguments; RocksDbEvents is called by RocksDB's threads.
// Ownership  Database closes, and ColumnFamily lets go of, what it holds.
#pragma once

#include <rocksdb/db.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "kvstore/write_behind.h"

namespace passband {

// kResourceExhausted: the device is full. kDataLoss: damaged or missing files.
// kUnavailable: anything else that the device did.
Status FromRocksDb(const rocksdb::Status& status, const std::string& context);
// What an operator reads while nothing is written: `error`, and what ends it.
Status DeviceFailure(const rocksdb::Status& error, bool resumes);
// Of a write: refused because of an earlier error, until the database is resumed.
bool IsStopped(const rocksdb::Status& status);

struct RocksDbSetup {
  rocksdb::Env* env = nullptr;  // null: the default one
  bool direct_io = true;
  uint64_t memtable_bytes = 0;
  bool strict = true;  // false: opens although files are damaged or missing
};

// For the database, and for the column families of each kind.
rocksdb::DBOptions MakeDbOptions(const RocksDbSetup& setup);
rocksdb::ColumnFamilyOptions MakeGenerationOptions(const RocksDbSetup& setup);
rocksdb::ColumnFamilyOptions MakeRecordOptions(const RocksDbSetup& setup);
// Of the kind that the name says.
rocksdb::ColumnFamilyOptions MakeFamilyOptions(const RocksDbSetup& setup, const std::string& name);

struct DatabaseCloser {
  void operator()(rocksdb::DB* db) const;
};
using Database = std::unique_ptr<rocksdb::DB, DatabaseCloser>;

// Shared by those who read at the moment; a dropped family's files go with the last one.
using ColumnFamily = std::shared_ptr<rocksdb::ColumnFamilyHandle>;
ColumnFamily OwnFamily(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* handle);

// An open database with all its families, the default one (always empty) left out.
struct OpenDatabase {
  Database db;
  std::vector<ColumnFamily> families;  // let go before db
  ~OpenDatabase() { families.clear(); }
};
StatusOr<std::unique_ptr<OpenDatabase>> OpenAllFamilies(const std::string& path,
                                                        const rocksdb::DBOptions& options,
                                                        const RocksDbSetup& setup,
                                                        const std::vector<std::string>& names,
                                                        bool read_only = false);

// What a key and its value add to a file, at most; the same sum when they are written
// and when a flush reports them.
uint64_t ChargeOf(uint64_t entries, uint64_t key_and_value_bytes);

class RocksDbEvents final : public rocksdb::EventListener {
 public:
  explicit RocksDbEvents(WriteBehind& write_behind) : write_behind_(write_behind) {}

  void OnFlushCompleted(rocksdb::DB* db, const rocksdb::FlushJobInfo& info) override;
  void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* error) override;
  // RocksDB's own recovery would have callers wait for it: SpillDatabase calls Resume.
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason reason, rocksdb::Status error,
                            bool* auto_recovery) override;

 private:
  WriteBehind& write_behind_;
};

}  // namespace passband
