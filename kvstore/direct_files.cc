#include "kvstore/direct_files.h"

#include <rocksdb/file_system.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <span>
#include <string>
#include <utility>

#include "base/mutex.h"
#include "base/thread.h"
#include "base/units.h"
#include "kvstore/io_buffers.h"

namespace passband {
namespace {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

constexpr uint64_t kSector = 4096;
constexpr size_t kQueued = 2;         // buffers of one file that wait to be written
constexpr size_t kKeptBuffers = 16;   // for readers and writers together
constexpr uint64_t kGap = 64 * kKiB;  // read over, sooner than asked apart for

uint64_t RoundDown(uint64_t value) { return value / kSector * kSector; }
uint64_t RoundUp(uint64_t value) { return RoundDown(value + kSector - 1); }

IOStatus NoMemory() { return IOStatus::IOError("no memory for an I/O buffer"); }

class DirectWritableFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  DirectWritableFile(std::unique_ptr<rocksdb::FSWritableFile> file,
                     std::shared_ptr<IoBuffers> buffers)
      : FSWritableFileOwnerWrapper(std::move(file)), buffers_(std::move(buffers)) {}

  ~DirectWritableFile() override {
    thread_.request_stop();
    if (thread_.joinable()) thread_.join();
  }

  using FSWritableFileOwnerWrapper::Append;
  IOStatus Append(const Slice& data, const IOOptions& /*options*/,
                  IODebugContext* /*dbg*/) override {
    for (size_t done = 0; done < data.size();) {
      if (!tail_.buffer) tail_ = {buffers_->Get(), 0, size_};
      if (!tail_.buffer) return NoMemory();
      const size_t piece = std::min(data.size() - done, IoBuffers::kBytes - tail_.bytes);
      std::memcpy(tail_.buffer.data() + tail_.bytes, data.data() + done, piece);
      tail_.bytes += piece;
      size_ += piece;
      done += piece;
      tail_written_ = false;
      if (tail_.bytes < IoBuffers::kBytes) continue;
      if (IOStatus status = Submit(); !status.ok()) return status;
    }
    return IOStatus::OK();
  }
  IOStatus Append(const Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo& /*info*/, IODebugContext* dbg) override {
    return Append(data, options, dbg);
  }
  IOStatus PositionedAppend(const Slice& /*data*/, uint64_t /*offset*/,
                            const IOOptions& /*options*/, IODebugContext* /*dbg*/) override {
    return IOStatus::NotSupported("PositionedAppend");
  }
  IOStatus PositionedAppend(const Slice& /*data*/, uint64_t /*offset*/,
                            const IOOptions& /*options*/,
                            const rocksdb::DataVerificationInfo& /*info*/,
                            IODebugContext* /*dbg*/) override {
    return IOStatus::NotSupported("PositionedAppend");
  }
  IOStatus Truncate(uint64_t size, const IOOptions& /*options*/, IODebugContext* /*dbg*/) override {
    return size == size_ ? IOStatus::OK() : IOStatus::NotSupported("Truncate");
  }
  IOStatus Flush(const IOOptions& /*options*/, IODebugContext* /*dbg*/) override { return Error(); }
  IOStatus Sync(const IOOptions& options, IODebugContext* dbg) override {
    IOStatus status = WriteTail(options, dbg);
    return status.ok() ? target()->Sync(options, dbg) : status;
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
    IOStatus status = WriteTail(options, dbg);
    return status.ok() ? target()->Fsync(options, dbg) : status;
  }
  IOStatus Close(const IOOptions& options, IODebugContext* dbg) override {
    const IOStatus written = WriteTail(options, dbg);
    IOStatus closed = target()->Close(options, dbg);
    return written.ok() ? closed : written;
  }
  uint64_t GetFileSize(const IOOptions& /*options*/, IODebugContext* /*dbg*/) override {
    return size_;
  }
  bool use_direct_io() const override { return false; }
  bool IsSyncThreadSafe() const override { return false; }
  // Neither space ahead nor write-out is asked for: both happen here.
  void PrepareWrite(size_t /*offset*/, size_t /*len*/, const IOOptions& /*options*/,
                    IODebugContext* /*dbg*/) override {}
  IOStatus Allocate(uint64_t /*offset*/, uint64_t /*len*/, const IOOptions& /*options*/,
                    IODebugContext* /*dbg*/) override {
    return IOStatus::OK();
  }
  IOStatus RangeSync(uint64_t /*offset*/, uint64_t /*bytes*/, const IOOptions& /*options*/,
                     IODebugContext* /*dbg*/) override {
    return IOStatus::OK();
  }

 private:
  struct Chunk {
    IoBuffers::Buffer buffer;
    size_t bytes = 0;
    uint64_t offset = 0;
  };

  IOStatus Error() {
    MutexLock lock(mutex_);
    return error_;
  }

  IOStatus Submit() {
    if (!thread_.joinable()) {
      thread_ = StartThread("pb-spill-io", [this](const std::stop_token& stop) { Run(stop); });
    }
    MutexLock lock(mutex_);
    while (error_.ok() && queue_.size() >= kQueued) changed_.wait(mutex_);
    if (!error_.ok()) return error_;
    queue_.push_back(std::exchange(tail_, {}));
    changed_.notify_all();
    return IOStatus::OK();
  }

  // What was appended is with the device, which need not have it safe. The last, partial
  // buffer stays: more may be appended to it.
  IOStatus WriteTail(const IOOptions& options, IODebugContext* dbg) {
    {
      MutexLock lock(mutex_);
      while (error_.ok() && !queue_.empty()) changed_.wait(mutex_);
      if (!error_.ok()) return error_;
    }
    if (!tail_.buffer || tail_written_) return IOStatus::OK();
    const size_t whole = RoundUp(tail_.bytes);
    std::memset(tail_.buffer.data() + tail_.bytes, 0, whole - tail_.bytes);
    IOStatus status =
        target()->PositionedAppend({tail_.buffer.data(), whole}, tail_.offset, options, dbg);
    if (status.ok()) status = target()->Truncate(size_, options, dbg);
    if (!status.ok()) return status;
    tail_written_ = true;
    return status;
  }

  void Run(const std::stop_token& stop) {
    for (;;) {
      const Chunk* chunk = nullptr;
      {
        MutexLock lock(mutex_);
        if (!changed_.wait(mutex_, stop, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
              return !queue_.empty();
            })) {
          return;
        }
        chunk = &queue_.front();
      }
      const IOStatus status = target()->PositionedAppend({chunk->buffer.data(), chunk->bytes},
                                                         chunk->offset, IOOptions(), nullptr);
      MutexLock lock(mutex_);
      if (!status.ok() && error_.ok()) error_ = status;
      queue_.pop_front();
      changed_.notify_all();
    }
  }

  const std::shared_ptr<IoBuffers> buffers_;
  Chunk tail_;
  bool tail_written_ = false;
  uint64_t size_ = 0;

  Mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Chunk> queue_ ABSL_GUARDED_BY(mutex_);  // the first is being written
  IOStatus error_ ABSL_GUARDED_BY(mutex_);
  std::jthread thread_;  // last: it uses all of the above
};

class DirectReadableFile final : public rocksdb::FSRandomAccessFileOwnerWrapper {
 public:
  DirectReadableFile(std::unique_ptr<rocksdb::FSRandomAccessFile> file,
                     std::shared_ptr<IoBuffers> buffers)
      : FSRandomAccessFileOwnerWrapper(std::move(file)), buffers_(std::move(buffers)) {}

  IOStatus Read(uint64_t offset, size_t n, const IOOptions& options, Slice* result, char* scratch,
                IODebugContext* dbg) const override {
    const IoBuffers::Buffer buffer = buffers_->Get();
    if (!buffer) return NoMemory();
    size_t done = 0;
    while (done < n) {
      Slice got;
      const IOStatus status = ReadTo(buffer, offset + done, n - done, options, &got, dbg);
      if (!status.ok()) return status;
      if (got.empty()) break;
      std::memcpy(scratch + done, got.data(), got.size());
      done += got.size();
    }
    *result = {scratch, done};
    return IOStatus::OK();
  }

  // Neighbours are read at once.
  IOStatus MultiRead(rocksdb::FSReadRequest* requests, size_t count, const IOOptions& options,
                     IODebugContext* dbg) override {
    for (size_t first = 0; first < count;) {
      const uint64_t begin = RoundDown(requests[first].offset);
      uint64_t end = requests[first].offset + requests[first].len;
      size_t last = first + 1;
      for (; last < count; ++last) {
        const rocksdb::FSReadRequest& next = requests[last];
        if (next.offset < end || next.offset > end + kGap) break;
        if (RoundUp(next.offset + next.len) - begin > IoBuffers::kBytes) break;
        end = next.offset + next.len;
      }
      ReadGroup({requests + first, last - first}, end, options, dbg);
      first = last;
    }
    return IOStatus::OK();
  }

  IOStatus Prefetch(uint64_t /*offset*/, size_t /*n*/, const IOOptions& /*options*/,
                    IODebugContext* /*dbg*/) override {
    return IOStatus::NotSupported("Prefetch");
  }
  IOStatus ReadAsync(rocksdb::FSReadRequest& request, const IOOptions& options,
                     std::function<void(const rocksdb::FSReadRequest&, void*)> done, void* argument,
                     void** /*handle*/, rocksdb::IOHandleDeleter* /*deleter*/,
                     IODebugContext* dbg) override {
    request.status =
        Read(request.offset, request.len, options, &request.result, request.scratch, dbg);
    done(request, argument);
    return IOStatus::OK();
  }
  bool use_direct_io() const override { return false; }

 private:
  // As much of [offset, offset + n) as the buffer takes; empty behind the file's end.
  IOStatus ReadTo(const IoBuffers::Buffer& buffer, uint64_t offset, size_t n,
                  const IOOptions& options, Slice* got, IODebugContext* dbg) const {
    const uint64_t begin = RoundDown(offset);
    const size_t whole = std::min<uint64_t>(RoundUp(offset + n) - begin, IoBuffers::kBytes);
    const IOStatus status = target()->Read(begin, whole, options, got, buffer.data(), dbg);
    if (!status.ok()) return status;
    got->remove_prefix(std::min<size_t>(offset - begin, got->size()));
    if (got->size() > n) *got = {got->data(), n};
    return status;
  }

  void ReadGroup(std::span<rocksdb::FSReadRequest> group, uint64_t end, const IOOptions& options,
                 IODebugContext* dbg) const {
    if (group.size() == 1) {
      group[0].status =
          Read(group[0].offset, group[0].len, options, &group[0].result, group[0].scratch, dbg);
      return;
    }
    const IoBuffers::Buffer buffer = buffers_->Get();
    const uint64_t begin = group[0].offset;
    Slice got;
    const IOStatus status =
        buffer ? ReadTo(buffer, begin, end - begin, options, &got, dbg) : NoMemory();
    for (rocksdb::FSReadRequest& request : group) {
      request.status = status;
      if (!status.ok()) continue;
      const size_t skip = std::min<size_t>(request.offset - begin, got.size());
      const size_t bytes = std::min(request.len, got.size() - skip);
      std::memcpy(request.scratch, got.data() + skip, bytes);
      request.result = {request.scratch, bytes};
    }
  }

  const std::shared_ptr<IoBuffers> buffers_;
};

class DirectFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  DirectFileSystem(const std::shared_ptr<rocksdb::FileSystem>& base, std::shared_ptr<LogRoom> room,
                   std::shared_ptr<LogRepair> repair)
      : FileSystemWrapper(base), room_(std::move(room)), repair_(std::move(repair)) {}

  const char* Name() const override { return "passband-direct-files"; }

  IOStatus NewRandomAccessFile(const std::string& name, const rocksdb::FileOptions& options,
                               std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                               IODebugContext* dbg) override {
    IOStatus status = target()->NewRandomAccessFile(name, options, file, dbg);
    if (status.ok() && options.use_direct_reads && IsTable(name)) {
      *file = std::make_unique<DirectReadableFile>(std::move(*file), buffers_);
    }
    return status;
  }

  IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                           std::unique_ptr<rocksdb::FSWritableFile>* file,
                           IODebugContext* dbg) override {
    if (name.ends_with(".log") && repair_ != nullptr) {
      *file = room_->Adopt(repair_->Begin(*target(), name, options));
      return IOStatus::OK();
    }
    IOStatus status = target()->NewWritableFile(name, options, file, dbg);
    if (status.ok() && options.use_direct_writes && IsTable(name)) {
      *file = std::make_unique<DirectWritableFile>(std::move(*file), buffers_);
    }
    return status;
  }

 private:
  static bool IsTable(const std::string& name) { return name.ends_with(".sst"); }

  const std::shared_ptr<LogRoom> room_;
  const std::shared_ptr<LogRepair> repair_;
  const std::shared_ptr<IoBuffers> buffers_ = std::make_shared<IoBuffers>(kKeptBuffers);
};

}  // namespace

std::unique_ptr<rocksdb::Env> MakeDirectEnv(rocksdb::Env& base, std::shared_ptr<LogRoom> room,
                                            std::shared_ptr<LogRepair> repair) {
  return rocksdb::NewCompositeEnv(
      std::make_shared<DirectFileSystem>(base.GetFileSystem(), std::move(room), std::move(repair)));
}

}  // namespace passband
