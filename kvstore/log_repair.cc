#include "kvstore/log_repair.h"

#include <string>
#include <utility>

namespace passband {
namespace {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

// What RocksDB sets up in place of a file that could not be begun.
class NoFile final : public rocksdb::FSWritableFile {
 public:
  IOStatus Append(const Slice& /*data*/, const IOOptions& /*options*/,
                  IODebugContext* /*dbg*/) override {
    return IOStatus::OK();
  }
  IOStatus Append(const Slice& /*data*/, const IOOptions& /*options*/,
                  const rocksdb::DataVerificationInfo& /*info*/, IODebugContext* /*dbg*/) override {
    return IOStatus::OK();
  }
  IOStatus Close(const IOOptions& /*options*/, IODebugContext* /*dbg*/) override {
    return IOStatus::OK();
  }
  IOStatus Flush(const IOOptions& /*options*/, IODebugContext* /*dbg*/) override {
    return IOStatus::OK();
  }
  IOStatus Sync(const IOOptions& /*options*/, IODebugContext* /*dbg*/) override {
    return IOStatus::OK();
  }
};

}  // namespace

// Of one log; outlives RocksDB's use of it while the device lacks something.
struct LogRepair::Content {
  Content(rocksdb::FileSystem& system, std::string path, const rocksdb::FileOptions& how)
      : files(system), name(std::move(path)), options(how) {}

  IOStatus Create() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return files.NewWritableFile(name, options, &file, nullptr);
  }
  // The file, what follows `safe`, all of it, and a sync.
  IOStatus WriteAgain() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    IOStatus status;
    if (file == nullptr) status = Create();
    if (status.ok()) status = file->PositionedAppend(rest, safe, IOOptions(), nullptr);
    if (status.ok()) status = file->Sync(IOOptions(), nullptr);
    if (status.ok() && nameless) status = SyncName();
    if (status.ok()) NoteSync();
    return status;
  }
  IOStatus SyncName() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::unique_ptr<rocksdb::FSDirectory> directory;
    IOStatus status =
        files.NewDirectory(name.substr(0, name.rfind('/')), IOOptions(), &directory, nullptr);
    if (status.ok()) status = directory->Fsync(IOOptions(), nullptr);
    if (status.ok()) nameless = false;
    return status;
  }
  void NoteSync() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    safe += rest.size();
    rest.clear();
  }

  rocksdb::FileSystem& files;
  const std::string name;
  const rocksdb::FileOptions options;
  NoFile no_file;

  Mutex mutex;
  std::unique_ptr<rocksdb::FSWritableFile> file ABSL_GUARDED_BY(mutex);  // null: failing
  uint64_t safe ABSL_GUARDED_BY(mutex) = 0;                              // bytes that were synced
  std::string rest ABSL_GUARDED_BY(mutex);                               // and those after them
  bool failing ABSL_GUARDED_BY(mutex) = false;
  bool failed ABSL_GUARDED_BY(mutex) = false;    // ever: the file's own position says nothing
  bool nameless ABSL_GUARDED_BY(mutex) = false;  // begun late: its folder was not synced since
  bool closed ABSL_GUARDED_BY(mutex) = false;    // by RocksDB, while it was failing
};

class LogRepair::Log final : public rocksdb::FSWritableFileWrapper {
 public:
  // `file`: the content's, or its stand-in.
  Log(rocksdb::FSWritableFile* file, std::shared_ptr<Content> content,
      std::shared_ptr<LogRepair> repair)
      : FSWritableFileWrapper(file), content_(std::move(content)), repair_(std::move(repair)) {}

  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* dbg) override {
    MutexLock lock(content_->mutex);
    const uint64_t end = content_->safe + content_->rest.size();
    content_->rest.append(data.data(), data.size());
    if (content_->failing) return IOStatus::OK();
    return Took(content_->failed ? content_->file->PositionedAppend(data, end, options, dbg)
                                 : content_->file->Append(data, options, dbg));
  }
  IOStatus Append(const Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo& /*info*/, IODebugContext* dbg) override {
    return Append(data, options, dbg);
  }
  IOStatus Flush(const IOOptions& options, IODebugContext* dbg) override {
    MutexLock lock(content_->mutex);
    return content_->failing ? IOStatus::OK() : Took(content_->file->Flush(options, dbg));
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* dbg) override {
    MutexLock lock(content_->mutex);
    return content_->failing ? IOStatus::OK() : TookSync(content_->file->Sync(options, dbg));
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
    MutexLock lock(content_->mutex);
    return content_->failing ? IOStatus::OK() : TookSync(content_->file->Fsync(options, dbg));
  }
  IOStatus RangeSync(uint64_t offset, uint64_t bytes, const IOOptions& options,
                     IODebugContext* dbg) override {
    MutexLock lock(content_->mutex);
    return content_->failing ? IOStatus::OK()
                             : Took(content_->file->RangeSync(offset, bytes, options, dbg));
  }
  IOStatus Allocate(uint64_t offset, uint64_t bytes, const IOOptions& options,
                    IODebugContext* dbg) override {
    MutexLock lock(content_->mutex);
    return content_->failing ? IOStatus::OK()
                             : content_->file->Allocate(offset, bytes, options, dbg);
  }
  IOStatus Close(const IOOptions& options, IODebugContext* dbg) override {
    MutexLock lock(content_->mutex);
    content_->closed = content_->failing;
    return content_->failing ? IOStatus::OK() : content_->file->Close(options, dbg);
  }
  uint64_t GetFileSize(const IOOptions& /*options*/, IODebugContext* /*dbg*/) override {
    MutexLock lock(content_->mutex);
    return content_->safe + content_->rest.size();
  }

 private:
  // RocksDB hears that all went well.
  IOStatus Took(const IOStatus& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(content_->mutex) {
    if (status.ok()) return status;
    content_->failing = content_->failed = true;
    repair_->NoteFailure(content_, status);
    return IOStatus::OK();
  }
  IOStatus TookSync(const IOStatus& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(content_->mutex) {
    if (status.ok()) content_->NoteSync();
    return Took(status);
  }

  const std::shared_ptr<Content> content_;
  const std::shared_ptr<LogRepair> repair_;
};

LogRepair::LogRepair(OnFailure on_failure) : on_failure_(std::move(on_failure)) {}
LogRepair::~LogRepair() = default;

std::unique_ptr<rocksdb::FSWritableFile> LogRepair::Begin(rocksdb::FileSystem& files,
                                                          const std::string& name,
                                                          const rocksdb::FileOptions& options) {
  const auto content = std::make_shared<Content>(files, name, options);
  MutexLock lock(content->mutex);
  const IOStatus status = content->Create();
  if (status.ok()) return std::make_unique<Log>(content->file.get(), content, shared_from_this());
  content->failing = content->failed = content->nameless = true;
  NoteFailure(content, status);
  return std::make_unique<Log>(&content->no_file, content, shared_from_this());
}

IOStatus LogRepair::error() const {
  MutexLock lock(mutex_);
  return error_;
}

void LogRepair::NoteFailure(const std::shared_ptr<Content>& content, const IOStatus& why) {
  {
    MutexLock lock(mutex_);
    failing_.push_back(content);
    error_ = why;
  }
  on_failure_(why);
}

void LogRepair::NoteRepair(const Content& content) {
  MutexLock lock(mutex_);
  std::erase_if(failing_, [&](const auto& one) { return one.get() == &content; });
  if (failing_.empty()) error_ = IOStatus::OK();
}

IOStatus LogRepair::Retry() {
  std::vector<std::shared_ptr<Content>> failing;
  {
    MutexLock lock(mutex_);
    failing = failing_;
  }
  for (const std::shared_ptr<Content>& content : failing) {
    MutexLock lock(content->mutex);
    if (!content->failing) continue;
    IOStatus status = content->WriteAgain();
    if (!status.ok()) return status;
    content->failing = false;
    if (content->closed) content->file->Close(IOOptions(), nullptr).PermitUncheckedError();
    NoteRepair(*content);
  }
  return IOStatus::OK();
}

}  // namespace passband
