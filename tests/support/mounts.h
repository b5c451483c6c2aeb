// Mounts: what this process mounts is seen by it and its children alone, and goes with them:
// a run that is killed leaves no namespace and no file system behind.
//
// Threads    call OwnMounts() once, before other threads start.
// Errors     kFailedPrecondition: it takes root.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "base/status.h"

namespace passband::test {

Status OwnMounts();

// A new, empty folder; the destructor removes it.
class SpillFolder {
 public:
  SpillFolder();
  ~SpillFolder();
  SpillFolder(const SpillFolder&) = delete;
  SpillFolder& operator=(const SpillFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A small file system in memory, which can be filled to the last byte.
//
// Ownership  the destructor unmounts it.
// Errors     kFailedPrecondition: it takes root.
class SmallDisk {
 public:
  static StatusOr<std::unique_ptr<SmallDisk>> Mount(const std::filesystem::path& at,
                                                    uint64_t bytes);
  ~SmallDisk();
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  // Takes all the room there is; kInternal when some is left.
  Status Fill();
  // Gives back what Fill took.
  Status Free();

 private:
  explicit SmallDisk(std::filesystem::path at) : at_(std::move(at)) {}
  std::filesystem::path ballast() const { return at_ / "ballast"; }

  const std::filesystem::path at_;
};

}  // namespace passband::test
