// SpillDirectory: the folder of a spill database: checked, marked as ours, and owned by
// one process at a time.
//
//   PASSBAND-SPILL  "passband spill directory", the format's version, whether it is whole
//   OWNER           locked (flock) by the process that has it open; holds its pid
//   the rest        RocksDB's own files
//
// Threads    Open and MarkWhole by one thread; the rest is constant.
// Ownership  holds the lock until it is destroyed.
// Errors     each says what to do about it:
//            kNotFound            no such directory
//            kFailedPrecondition  not a directory; not writable; other files in it;
//                                 another format; open in another process (names its pid)
//            kDataLoss            its marker is damaged, or its database is gone
//            kResourceExhausted   the device is full
//            kUnavailable         the device fails
#pragma once

#include <memory>
#include <string>

#include "base/status.h"

namespace passband {

class SpillDirectory {
 public:
  enum class Use {
    kServe,    // An empty directory becomes a spill directory.
    kInspect,  // Must be one; nothing in it changes.
  };

  static StatusOr<std::unique_ptr<SpillDirectory>> Open(const std::string& path, Use use);
  ~SpillDirectory();
  SpillDirectory(const SpillDirectory&) = delete;
  SpillDirectory& operator=(const SpillDirectory&) = delete;

  const std::string& path() const { return path_; }
  // Its database was created completely. Until then there is nothing in it to lose.
  bool whole() const { return whole_; }
  Status MarkWhole();

  // Whether files here can bypass the page cache (tmpfs refuses).
  bool SupportsDirectIo() const;

 private:
  explicit SpillDirectory(std::string path) : path_(std::move(path)) {}
  Status CheckDirectory(Use use) const;
  Status Lock(Use use);
  Status ReadMarker(Use use);
  Status WriteMarker(const char* state) const;

  const std::string path_;
  int owner_fd_ = -1;
  bool whole_ = false;
};

}  // namespace passband
