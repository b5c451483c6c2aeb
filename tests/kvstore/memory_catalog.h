// MemoryCatalog: a Catalog in ordinary memory, for tests of what stands above one. What was
// written survives a "crash": a store that is destroyed and created anew.
//
// Threads  safe; one mutex.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "base/mutex.h"
#include "kvstore/catalog.h"

namespace passband {

class MemoryCatalog final : public Catalog {
 public:
  Status Write(const CatalogBatch& batch) override {
    MutexLock lock(mutex_);
    if (failing_) {
      ++refused_;
      return Error(StatusCode::kUnavailable, "the device fails");
    }
    if (frozen_) return OkStatus();
    for (const CatalogBatch::Change& change : batch.changes) {
      const Key key{change.kind, change.key};
      if (change.erase) {
        records_.erase(key);
      } else {
        records_[key] = change.value;
      }
    }
    return OkStatus();
  }

  StatusOr<uint64_t> ForEach(RecordKind kind, const Visit& visit) const override {
    std::map<Key, std::string> records;
    {
      MutexLock lock(mutex_);
      records = records_;
    }
    for (const auto& [key, value] : records) {
      if (key.first == kind) visit(key.second, value);
    }
    return 0;
  }

  void Fail(bool failing) {
    MutexLock lock(mutex_);
    failing_ = failing;
  }
  // Writes come to nothing, as those of a process that was killed before.
  void Freeze(bool frozen) {
    MutexLock lock(mutex_);
    frozen_ = frozen;
  }
  uint64_t refused() const {
    MutexLock lock(mutex_);
    return refused_;
  }
  // Cuts the record's last byte off.
  void Truncate(RecordKind kind, const std::string& key) {
    MutexLock lock(mutex_);
    records_.at({kind, key}).pop_back();
  }
  uint64_t records(RecordKind kind) const {
    MutexLock lock(mutex_);
    uint64_t count = 0;
    for (const auto& [key, value] : records_) count += key.first == kind ? 1 : 0;
    return count;
  }
  uint64_t bytes(RecordKind kind) const {
    MutexLock lock(mutex_);
    uint64_t bytes = 0;
    for (const auto& [key, value] : records_) bytes += key.first == kind ? value.size() : 0;
    return bytes;
  }

 private:
  using Key = std::pair<RecordKind, std::string>;

  mutable Mutex mutex_;
  std::map<Key, std::string> records_ ABSL_GUARDED_BY(mutex_);
  bool frozen_ ABSL_GUARDED_BY(mutex_) = false;
  bool failing_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t refused_ ABSL_GUARDED_BY(mutex_) = 0;  // writes, while it failed
};

}  // namespace passband
