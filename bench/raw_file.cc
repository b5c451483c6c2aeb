#include "bench/raw_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace passband::bench {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

Status FromErrno(const std::string& what) {
  return Error(StatusCode::kUnavailable, "{}: {}", what, std::strerror(errno));
}

}  // namespace

SectorBuffer::SectorBuffer(size_t bytes, bool huge_pages)
    : size_(bytes), mapped_((bytes + kHugePage - 1) / kHugePage * kHugePage + kHugePage) {
  void* begin =
      ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  PASSBAND_CHECK(begin != MAP_FAILED);
  begin_ = static_cast<std::byte*>(begin);
  ::madvise(begin_, mapped_, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  data_ = begin_ + (kHugePage - reinterpret_cast<uintptr_t>(begin_) % kHugePage) % kHugePage;
}

SectorBuffer::~SectorBuffer() { ::munmap(begin_, mapped_); }

StatusOr<std::unique_ptr<RawFile>> RawFile::Create(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
  if (fd < 0) return FromErrno(path);
  return std::unique_ptr<RawFile>(new RawFile(path, fd));
}

RawFile::~RawFile() {
  ::close(fd_);
  ::unlink(path_.c_str());
}

Status RawFile::Append(std::span<const std::byte> bytes) {
  const ssize_t wrote = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(size_));
  if (wrote != static_cast<ssize_t>(bytes.size())) return FromErrno("writing " + path_);
  size_ += bytes.size();
  return OkStatus();
}

Status RawFile::Sync() { return ::fdatasync(fd_) == 0 ? OkStatus() : FromErrno("fsync " + path_); }

Status RawFile::Read(uint64_t offset, std::span<std::byte> out) const {
  const ssize_t got = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
  if (got != static_cast<ssize_t>(out.size())) return FromErrno("reading " + path_);
  return OkStatus();
}

}  // namespace passband::bench
