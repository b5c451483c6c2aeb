#include "kvstore/log_room.h"

#include <atomic>
#include <utility>

#include "base/log.h"
#include "base/units.h"
#include "kvstore/rocksdb_support.h"

namespace passband {
namespace {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

// Space is taken in steps of so much.
constexpr uint64_t kStep = kMiB;

// What RocksDB makes of a batch in its log: a header a piece of 32 KiB, and padding.
uint64_t LoggedBytes(uint64_t batch_bytes) { return batch_bytes + batch_bytes / 1024 + 64 * kKiB; }

}  // namespace

class LogRoom::Log final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  Log(std::unique_ptr<rocksdb::FSWritableFile> file, std::shared_ptr<LogRoom> room)
      : FSWritableFileOwnerWrapper(std::move(file)), room_(std::move(room)) {}
  ~Log() override { room_->Forget(this); }

  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* dbg) override {
    written_.fetch_add(data.size());
    return target()->Append(data, options, dbg);
  }
  IOStatus Append(const Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo& info, IODebugContext* dbg) override {
    written_.fetch_add(data.size());
    return target()->Append(data, options, info, dbg);
  }
  IOStatus Close(const IOOptions& options, IODebugContext* dbg) override {
    room_->Forget(this);
    return target()->Close(options, dbg);
  }

  // Under the room's mutex: space for `bytes` behind what is written.
  IOStatus TakeAhead(uint64_t bytes) {
    const uint64_t end = written_.load() + bytes;
    if (end <= taken_) return IOStatus::OK();
    const uint64_t more = (end - taken_ + kStep - 1) / kStep * kStep;
    IOStatus status = target()->Allocate(taken_, more, IOOptions(), nullptr);
    if (status.ok()) taken_ += more;
    return status;
  }

 private:
  const std::shared_ptr<LogRoom> room_;
  std::atomic<uint64_t> written_{0};
  uint64_t taken_ = 0;
};

LogRoom::Hold::Hold(Hold&& other) noexcept : room_(std::move(other.room_)), bytes_(other.bytes_) {}

LogRoom::Hold::~Hold() {
  if (room_ != nullptr) room_->Release(bytes_);
}

StatusOr<LogRoom::Hold> LogRoom::Reserve(uint64_t batch_bytes) {
  const uint64_t bytes = LoggedBytes(batch_bytes);
  MutexLock lock(mutex_);
  held_ += bytes;
  if (current_ == nullptr) return Hold(shared_from_this(), bytes);
  if (const IOStatus taken = Extend(*current_); !taken.ok()) {
    held_ -= bytes;
    return FromRocksDb(taken, "taking room for records");
  }
  return Hold(shared_from_this(), bytes);
}

std::unique_ptr<rocksdb::FSWritableFile> LogRoom::Adopt(
    std::unique_ptr<rocksdb::FSWritableFile> log) {
  auto adopted = std::make_unique<Log>(std::move(log), shared_from_this());
  MutexLock lock(mutex_);
  current_ = adopted.get();
  // A full device is told by the next Reserve.
  Extend(*adopted).PermitUncheckedError();
  return adopted;
}

IOStatus LogRoom::Extend(Log& log) {
  IOStatus taken = log.TakeAhead(held_ + LoggedBytes(0));
  if (taken.ok() || taken.IsNoSpace()) return taken;
  if (!std::exchange(told_, true)) {
    log::Warn("spill_log_without_room", {{"why", taken.ToString()}});
  }
  return IOStatus::OK();
}

void LogRoom::Forget(const Log* log) {
  MutexLock lock(mutex_);
  if (current_ == log) current_ = nullptr;
}

void LogRoom::Release(uint64_t bytes) {
  MutexLock lock(mutex_);
  held_ -= bytes;
}

}  // namespace passband
