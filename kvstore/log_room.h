// LogRoom: space that is taken on the device ahead of RocksDB's log. With room held for it, a write
// of records that a full device would fail is refused before the log is touched: what is refused
// later has to be taken back (log_repair.h).
//
// A log begins with what is held at that time, so it does not matter which log a write ends up in.
// Where the file system cannot take space ahead, or there was none when the log was begun, nothing
// is refused here, and a full device fails the log as a broken one does.
//
// Units      bytes.
// Threads    safe; one mutex, held while space is taken.
// Ownership  shared by the file system, its logs, and whoever writes records.
// Errors     kResourceExhausted  the device is full
#pragma once

#include <rocksdb/file_system.h>

#include <cstdint>
#include <memory>

#include "base/mutex.h"
#include "base/status.h"

namespace passband {

class LogRoom : public std::enable_shared_from_this<LogRoom> {
 public:
  // Room that nobody else is given while this lives.
  class Hold {
   public:
    Hold(Hold&& other) noexcept;
    Hold& operator=(Hold&&) = delete;
    ~Hold();

   private:
    friend class LogRoom;
    Hold(std::shared_ptr<LogRoom> room, uint64_t bytes) : room_(std::move(room)), bytes_(bytes) {}

    std::shared_ptr<LogRoom> room_;
    const uint64_t bytes_;
  };

  // For one batch of so many bytes.
  StatusOr<Hold> Reserve(uint64_t batch_bytes);

  // A log that was just begun, and is written to from now on.
  std::unique_ptr<rocksdb::FSWritableFile> Adopt(std::unique_ptr<rocksdb::FSWritableFile> log);

 private:
  class Log;

  rocksdb::IOStatus Extend(Log& log) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(const Log* log);
  void Release(uint64_t bytes);

  Mutex mutex_;
  Log* current_ ABSL_GUARDED_BY(mutex_) = nullptr;
  uint64_t held_ ABSL_GUARDED_BY(mutex_) = 0;
  bool told_ ABSL_GUARDED_BY(mutex_) = false;  // that space cannot be taken ahead
};

}  // namespace passband
