// RawFile: a file read and written past the page cache, to say what the device does
// without anything of ours on it.
//
// Units      bytes; offsets and lengths are multiples of kSector.
// Threads    Read may run in several threads.
// Ownership  removes the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"

namespace passband::bench {

inline constexpr size_t kSector = 4096;

// Bytes at an address that O_DIRECT takes.
class SectorBuffer {
 public:
  // In pages of 4 KiB a device has to be told of every one of them.
  SectorBuffer(size_t bytes, bool huge_pages);
  ~SectorBuffer();
  SectorBuffer(const SectorBuffer&) = delete;
  SectorBuffer& operator=(const SectorBuffer&) = delete;
  std::span<std::byte> bytes() const { return {data_, size_}; }

 private:
  const size_t size_;
  const size_t mapped_;
  std::byte* begin_ = nullptr;
  std::byte* data_ = nullptr;
};

class RawFile {
 public:
  static StatusOr<std::unique_ptr<RawFile>> Create(const std::string& path);
  ~RawFile();
  RawFile(const RawFile&) = delete;
  RawFile& operator=(const RawFile&) = delete;

  // Behind what is there.
  Status Append(std::span<const std::byte> bytes);
  Status Sync();
  Status Read(uint64_t offset, std::span<std::byte> out) const;
  uint64_t size() const { return size_; }

 private:
  RawFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  const std::string path_;
  const int fd_;
  uint64_t size_ = 0;
};

}  // namespace passband::bench
