// FailingDisk: the real file system, but that writes and reads fail as often as told: as a
// broken device does (EIO), a full one (ENOSPC, half of the bytes written), or one that gives
// other bits back than it took.
//
// Threads    safe.
// Ownership  outlives what is opened with its env().
#pragma once

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "base/mutex.h"

namespace passband::test {

class FailingDisk {
 public:
  // Shares of the calls, 0 to 1.
  struct Faults {
    double write_eio = 0;
    double write_full = 0;  // half of the bytes are written
    double sync_eio = 0;
    double create_eio = 0;  // of a new file
    double read_eio = 0;
    double read_flip = 0;   // of one bit
    bool logs = true;       // strike them too
    bool allocates = true;  // space can be taken ahead
  };

  explicit FailingDisk(uint64_t seed) : state_(std::make_shared<State>(seed)) {
    env_ = rocksdb::NewCompositeEnv(std::make_shared<Files>(state_));
  }

  rocksdb::Env* env() const { return env_.get(); }
  void Set(const Faults& faults) { state_->Set(faults); }
  void Heal() { Set({}); }
  // Faults so far.
  uint64_t count() const { return state_->count(); }

 private:
  using IOStatus = rocksdb::IOStatus;
  using IOOptions = rocksdb::IOOptions;
  using IODebugContext = rocksdb::IODebugContext;
  using Slice = rocksdb::Slice;

  class State {
   public:
    explicit State(uint64_t seed) : random_(seed) {}
    void Set(const Faults& faults) {
      MutexLock lock(mutex_);
      faults_ = faults;
    }
    bool Strikes(double Faults::*share) {
      MutexLock lock(mutex_);
      if (std::uniform_real_distribution<>()(random_) >= faults_.*share) return false;
      ++count_;
      return true;
    }
    bool logs() const {
      MutexLock lock(mutex_);
      return faults_.logs;
    }
    bool allocates() const {
      MutexLock lock(mutex_);
      return faults_.allocates;
    }
    uint64_t Random() {
      MutexLock lock(mutex_);
      return random_();
    }
    uint64_t count() const {
      MutexLock lock(mutex_);
      return count_;
    }

   private:
    mutable Mutex mutex_;
    std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);
    Faults faults_ ABSL_GUARDED_BY(mutex_);
    uint64_t count_ ABSL_GUARDED_BY(mutex_) = 0;
  };

  static IOStatus Eio() { return IOStatus::IOError("Input/output error (injected)"); }
  static IOStatus Full() { return IOStatus::NoSpace("No space left on device (injected)"); }

  class Writable final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    Writable(std::unique_ptr<rocksdb::FSWritableFile> file, std::shared_ptr<State> state)
        : FSWritableFileOwnerWrapper(std::move(file)), state_(std::move(state)) {}
    IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* dbg) override {
      if (state_->Strikes(&Faults::write_eio)) return Eio();
      const bool has_space = written_ + data.size() <= allocated_;
      written_ += data.size();
      if (has_space || !state_->Strikes(&Faults::write_full)) {
        return target()->Append(data, options, dbg);
      }
      const IOStatus half = target()->Append({data.data(), Half(data)}, options, dbg);
      return half.ok() ? Full() : half;
    }
    IOStatus Append(const Slice& data, const IOOptions& options,
                    const rocksdb::DataVerificationInfo& /*info*/, IODebugContext* dbg) override {
      return Append(data, options, dbg);
    }
    IOStatus PositionedAppend(const Slice& data, uint64_t offset, const IOOptions& options,
                              IODebugContext* dbg) override {
      if (state_->Strikes(&Faults::write_eio)) return Eio();
      const bool has_space = offset + data.size() <= allocated_;
      if (has_space || !state_->Strikes(&Faults::write_full)) {
        return target()->PositionedAppend(data, offset, options, dbg);
      }
      const IOStatus half =
          target()->PositionedAppend({data.data(), Half(data)}, offset, options, dbg);
      return half.ok() ? Full() : half;
    }
    IOStatus PositionedAppend(const Slice& data, uint64_t offset, const IOOptions& options,
                              const rocksdb::DataVerificationInfo& /*info*/,
                              IODebugContext* dbg) override {
      return PositionedAppend(data, offset, options, dbg);
    }
    // What was allocated can be written though the device is full.
    IOStatus Allocate(uint64_t offset, uint64_t bytes, const IOOptions& options,
                      IODebugContext* dbg) override {
      if (!state_->allocates()) return IOStatus::NotSupported("Allocate");
      if (state_->Strikes(&Faults::write_full)) return Full();
      IOStatus status = target()->Allocate(offset, bytes, options, dbg);
      if (status.ok()) allocated_ = std::max(allocated_, offset + bytes);
      return status;
    }
    IOStatus Sync(const IOOptions& options, IODebugContext* dbg) override {
      return state_->Strikes(&Faults::sync_eio) ? Eio() : target()->Sync(options, dbg);
    }
    IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
      return state_->Strikes(&Faults::sync_eio) ? Eio() : target()->Fsync(options, dbg);
    }

   private:
    size_t Half(const Slice& data) const {
      const size_t unit = use_direct_io() ? GetRequiredBufferAlignment() : 1;
      return data.size() / 2 / unit * unit;
    }
    const std::shared_ptr<State> state_;
    uint64_t written_ = 0;
    uint64_t allocated_ = 0;
  };

  class Readable final : public rocksdb::FSRandomAccessFileOwnerWrapper {
   public:
    Readable(std::unique_ptr<rocksdb::FSRandomAccessFile> file, std::shared_ptr<State> state)
        : FSRandomAccessFileOwnerWrapper(std::move(file)), state_(std::move(state)) {}
    IOStatus Read(uint64_t offset, size_t n, const IOOptions& options, Slice* result, char* scratch,
                  IODebugContext* dbg) const override {
      if (state_->Strikes(&Faults::read_eio)) return Eio();
      IOStatus status = target()->Read(offset, n, options, result, scratch, dbg);
      if (status.ok() && result->size() > 0 && result->data() == scratch &&
          state_->Strikes(&Faults::read_flip)) {
        const uint64_t where = state_->Random();
        scratch[where % result->size()] ^= static_cast<char>(1 << where / 64 % 8);
      }
      return status;
    }
    IOStatus MultiRead(rocksdb::FSReadRequest* requests, size_t count, const IOOptions& options,
                       IODebugContext* dbg) override {
      for (size_t i = 0; i < count; ++i) {
        rocksdb::FSReadRequest& request = requests[i];
        request.status =
            Read(request.offset, request.len, options, &request.result, request.scratch, dbg);
      }
      return IOStatus::OK();
    }

   private:
    const std::shared_ptr<State> state_;
  };

  class Files final : public rocksdb::FileSystemWrapper {
   public:
    explicit Files(std::shared_ptr<State> state)
        : FileSystemWrapper(rocksdb::Env::Default()->GetFileSystem()), state_(std::move(state)) {}
    const char* Name() const override { return "failing-disk"; }
    IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                             std::unique_ptr<rocksdb::FSWritableFile>* file,
                             IODebugContext* dbg) override {
      if (state_->Strikes(&Faults::write_full)) return Full();
      if (state_->Strikes(&Faults::create_eio)) return Eio();
      IOStatus status = target()->NewWritableFile(name, options, file, dbg);
      if (status.ok() && (state_->logs() || !name.ends_with(".log"))) {
        *file = std::make_unique<Writable>(std::move(*file), state_);
      }
      return status;
    }
    IOStatus NewRandomAccessFile(const std::string& name, const rocksdb::FileOptions& options,
                                 std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                                 IODebugContext* dbg) override {
      IOStatus status = target()->NewRandomAccessFile(name, options, file, dbg);
      if (status.ok()) *file = std::make_unique<Readable>(std::move(*file), state_);
      return status;
    }

   private:
    const std::shared_ptr<State> state_;
  };

  const std::shared_ptr<State> state_;
  std::unique_ptr<rocksdb::Env> env_;
};

}  // namespace passband::test
