// LogRepair: RocksDB's log on a device that fails. RocksDB 7.8 cannot go on once a write to its log
// or a sync of it has failed, and loses count of its families when a log cannot be begun. So it is
// not told: what the device refused is kept here, and written again when the device answers.
// Whoever writes records asks afterwards whether the log has them.
//
// Only what was written since the last sync is kept, and nothing more is to be written until
// Retry() succeeds: a batch or two.
//
// Threads    safe. A log has a mutex, held while it is written.
// Ownership  shared by the file system, its logs, and whoever writes records.
// Errors     the device's, until all of it is written and synced.
#pragma once

#include <rocksdb/file_system.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"

namespace passband {

class LogRepair : public std::enable_shared_from_this<LogRepair> {
 public:
  // Called when a log that was whole no longer is, with its mutex held.
  using OnFailure = std::function<void(const rocksdb::IOStatus&)>;
  explicit LogRepair(OnFailure on_failure);
  ~LogRepair();

  // A new log, `name`, of `files`, which outlives it.
  std::unique_ptr<rocksdb::FSWritableFile> Begin(rocksdb::FileSystem& files,
                                                 const std::string& name,
                                                 const rocksdb::FileOptions& options);

  // OK: the device has all that RocksDB wrote and synced.
  rocksdb::IOStatus error() const;
  // Writes and syncs again what the device refused.
  rocksdb::IOStatus Retry();

 private:
  class Log;
  struct Content;

  void NoteFailure(const std::shared_ptr<Content>& content, const rocksdb::IOStatus& why);
  void NoteRepair(const Content& content);

  const OnFailure on_failure_;
  mutable Mutex mutex_;  // a leaf
  std::vector<std::shared_ptr<Content>> failing_ ABSL_GUARDED_BY(mutex_);
  rocksdb::IOStatus error_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace passband
