#include "kvstore/rocksdb_support.h"

#include <rocksdb/convenience.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>

#include "base/log.h"
#include "base/units.h"
#include "kvstore/spill_format.h"

namespace passband {
namespace {

// RocksDB's warnings go to our log; it writes no LOG files.
class LogBridge final : public rocksdb::Logger {
 public:
  LogBridge() : Logger(rocksdb::InfoLogLevel::WARN_LEVEL) {}
  using Logger::Logv;
  void Logv(const char* format, va_list arguments) override {
    std::array<char, 1024> text;
    if (std::vsnprintf(text.data(), text.size(), format, arguments) > 0) {
      log::Debug("rocksdb", {{"text", text.data()}});
    }
  }
};

rocksdb::BlockBasedTableOptions MakeTableOptions() {
  rocksdb::BlockBasedTableOptions table;
  // Debian's library computes CRC32C in a software loop.
  table.checksum = rocksdb::kXXH3;
  table.index_block_restart_interval = 16;
  return table;
}

}  // namespace

Status FromRocksDb(const rocksdb::Status& status, const std::string& context) {
  if (status.ok()) return OkStatus();
  const std::string text = status.ToString();
  if (status.IsNoSpace() || status.subcode() == rocksdb::Status::kSpaceLimit) {
    return Error(StatusCode::kResourceExhausted,
                 "{}: the spill device is full ({}): free space on it, and a running server goes "
                 "on by itself",
                 context, text);
  }
  if (status.IsCorruption() || status.IsPathNotFound()) {
    return Error(StatusCode::kDataLoss, "{}: {}", context, text);
  }
  return Error(StatusCode::kUnavailable, "{}: {}", context, text);
}

Status DeviceFailure(const rocksdb::Status& error, bool resumes) {
  const Status why = FromRocksDb(error, "writing to the spill device");
  return Error(why.code(), "{}. {}", Message(why),
               resumes ? "Writing goes on by itself once the device takes it (see the kernel's log)"
                       : "Start the server again once the device takes it (see the kernel's log)");
}

bool IsStopped(const rocksdb::Status& status) {
  return !status.ok() && status.severity() >= rocksdb::Status::kSoftError;
}

rocksdb::DBOptions MakeDbOptions(const RocksDbSetup& setup) {
  rocksdb::DBOptions options;
  if (setup.env != nullptr) options.env = setup.env;
  options.info_log = std::make_shared<LogBridge>();
  options.paranoid_checks = setup.strict;
  options.use_direct_reads = setup.direct_io;
  options.use_direct_io_for_flush_and_compaction = setup.direct_io;
  options.max_open_files = -1;
  // Planes go to their file as they are, not through one more buffer.
  options.writable_file_max_buffer_size = 16 * kKiB;
  // Of two at once, RocksDB 7.8 removes the file of the one when the other fails, and then
  // looks for it. DirectFiles overlaps making and writing, so one is fast enough.
  options.max_background_flushes = 1;
  options.max_background_compactions = 1;
  // Only records go through the log: it stays small.
  options.max_total_wal_size = 16 * kMiB;
  // A damaged record of the log costs itself, not all that follow.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kSkipAnyCorruptedRecords;
  // Files of a dropped generation are gone when its last user lets go of it.
  options.avoid_unnecessary_blocking_io = false;
  // What is not flushed is not promised; a failing device must not hold up a close.
  options.avoid_flush_during_shutdown = true;
  options.max_bgerror_resume_count = 0;
  return options;
}

rocksdb::ColumnFamilyOptions MakeGenerationOptions(const RocksDbSetup& setup) {
  rocksdb::ColumnFamilyOptions options;
  options.compression = rocksdb::kNoCompression;
  // Blocks are written once and go with their generation: nothing to compact.
  options.disable_auto_compactions = true;
  options.level0_file_num_compaction_trigger = 1 << 20;
  options.level0_slowdown_writes_trigger = 1 << 20;
  options.level0_stop_writes_trigger = 1 << 20;
  options.write_buffer_size = setup.memtable_bytes;
  // The tier waits before this many are full, for a time that it knows.
  options.max_write_buffer_number = 64;
  rocksdb::BlockBasedTableOptions table = MakeTableOptions();
  // Each plane is a block of its own, read whole and once.
  table.no_block_cache = true;
  // Of few files, RocksDB would read in each.
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

rocksdb::ColumnFamilyOptions MakeRecordOptions(const RocksDbSetup& /*setup*/) {
  rocksdb::ColumnFamilyOptions options;
  options.compression = rocksdb::kNoCompression;
  options.write_buffer_size = 8 * kMiB;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(MakeTableOptions()));
  return options;
}

rocksdb::ColumnFamilyOptions MakeFamilyOptions(const RocksDbSetup& setup, const std::string& name) {
  return ParseGenerationName(name).has_value() ? MakeGenerationOptions(setup)
                                               : MakeRecordOptions(setup);
}

void DatabaseCloser::operator()(rocksdb::DB* db) const {
  rocksdb::CancelAllBackgroundWork(db, /*wait=*/true);
  db->Close().PermitUncheckedError();
  delete db;
}

ColumnFamily OwnFamily(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* handle) {
  return {handle, [&db](rocksdb::ColumnFamilyHandle* family) {
            db.DestroyColumnFamilyHandle(family).PermitUncheckedError();
          }};
}

StatusOr<std::unique_ptr<OpenDatabase>> OpenAllFamilies(const std::string& path,
                                                        const rocksdb::DBOptions& options,
                                                        const RocksDbSetup& setup,
                                                        const std::vector<std::string>& names,
                                                        bool read_only) {
  std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
  descriptors.reserve(names.size());
  for (const std::string& name : names) {
    descriptors.emplace_back(name, MakeFamilyOptions(setup, name));
  }
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      read_only ? rocksdb::DB::OpenForReadOnly(options, path, descriptors, &handles, &db)
                : rocksdb::DB::Open(options, path, descriptors, &handles, &db);
  if (status.IsNoSpace()) {
    return Error(StatusCode::kResourceExhausted,
                 "cannot open '{}': {}. Free space on the device; what is stored there is kept",
                 path, status.ToString());
  }
  PASSBAND_RETURN_IF_ERROR(FromRocksDb(status, fmt::format("cannot open '{}'", path)));
  auto open = std::make_unique<OpenDatabase>();
  open->db.reset(db);
  for (size_t i = 0; i < handles.size(); ++i) {
    ColumnFamily family = OwnFamily(*db, handles[i]);
    if (names[i] != rocksdb::kDefaultColumnFamilyName) open->families.push_back(std::move(family));
  }
  return open;
}

uint64_t ChargeOf(uint64_t entries, uint64_t key_and_value_bytes) {
  // Trailer, lengths and index of an entry that is a block of its own: 50 or so.
  constexpr uint64_t kEntryBytes = 96;
  return entries * kEntryBytes + key_and_value_bytes;
}

void RocksDbEvents::OnFlushCompleted(rocksdb::DB* /*db*/, const rocksdb::FlushJobInfo& info) {
  const rocksdb::TableProperties& table = info.table_properties;
  write_behind_.Flushed(info.cf_id,
                        ChargeOf(table.num_entries, table.raw_key_size + table.raw_value_size));
}

void RocksDbEvents::OnBackgroundError(rocksdb::BackgroundErrorReason reason,
                                      rocksdb::Status* error) {
  // What was to be flushed is still in memory, so Resume may try again. A log that failed
  // cannot be written to any more: RocksDB 7.8 aborts the process when it is, be it full only.
  const bool resumes = reason != rocksdb::BackgroundErrorReason::kWriteCallback;
  if (error->IsIOError()) {
    const auto hard = rocksdb::Status::kHardError;
    *error = rocksdb::Status(
        *error, resumes ? std::min(error->severity(), hard) : rocksdb::Status::kFatalError);
  }
  const Status status = DeviceFailure(*error, resumes);
  log::Warn("spill_device_failed", {{"why", status}});
  write_behind_.SetError(status);
}

void RocksDbEvents::OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason /*reason*/,
                                         rocksdb::Status /*error*/, bool* auto_recovery) {
  *auto_recovery = false;
}

}  // namespace passband
