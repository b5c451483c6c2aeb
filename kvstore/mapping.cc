#include "kvstore/mapping.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/thread.h"
#include "base/units.h"
#include "kvstore/memory_limits.h"

namespace passband {
namespace {

constexpr uint64_t kHugePage = 2 * kMiB;
constexpr uint64_t kTouchPiece = 64 * kMiB;

uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

Status SystemError(const char* call, uint64_t bytes) {
  const int error = errno;
  const bool memory = error == ENOMEM || error == EAGAIN;
  return Error(memory ? StatusCode::kResourceExhausted : StatusCode::kInternal,
               "{} of {} failed: {}", call, FormatBytes(bytes),
               std::generic_category().message(error));
}

// Makes every page of [data, data + bytes) present and writable.
bool Populate(std::byte* data, uint64_t bytes) {
  if (madvise(data, bytes, MADV_POPULATE_WRITE) == 0) return true;
  if (errno != EINVAL) return false;
  // A kernel older than 5.14: touch each page by hand.
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  for (uint64_t at = 0; at < bytes; at += page) {
    *static_cast<volatile std::byte*>(data + at) = std::byte{0};
  }
  return true;
}

}  // namespace

StatusOr<std::unique_ptr<Mapping>> Mapping::Create(const Options& options) {
  if (options.bytes == 0) return Error(StatusCode::kInvalidArgument, "a mapping of no bytes");
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  std::unique_ptr<Mapping> mapping(new Mapping());
  const bool reserved =
      options.huge_pages && mapping->OpenReserved(RoundUp(options.bytes, kHugePage)).ok();
  if (!reserved) {
    const uint64_t available = AvailableMemory();
    if (options.bytes > available) {
      return Error(StatusCode::kResourceExhausted,
                   "{} of RAM asked for, {} available: ask for less, or free some",
                   FormatBytes(options.bytes), FormatBytes(available));
    }
    PASSBAND_RETURN_IF_ERROR(mapping->OpenPages(RoundUp(options.bytes, page)));
    PASSBAND_RETURN_IF_ERROR(mapping->Map(options.huge_pages));
  }
  // A core dump of the whole cache helps nobody.
  (void)madvise(mapping->data_, mapping->bytes_, MADV_DONTDUMP);
  if (options.pre_touch) PASSBAND_RETURN_IF_ERROR(mapping->PreTouch(options.touch_threads));
  if (options.lock && mlock(mapping->data_, mapping->bytes_) != 0) {
    return Annotate(SystemError("mlock", mapping->bytes_), "see ulimit -l");
  }
  return mapping;
}

Mapping::~Mapping() {
  if (data_ != nullptr) munmap(data_, bytes_);
  if (fd_ >= 0) close(fd_);
}

// The pool hands its pages out at mmap, so that failing here costs nothing.
Status Mapping::OpenReserved(uint64_t bytes) {
  fd_ =
      memfd_create("passband-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_HUGE_2MB);
  if (fd_ < 0) return SystemError("memfd_create (huge pages)", bytes);
  void* at = MAP_FAILED;
  if (ftruncate(fd_, static_cast<off_t>(bytes)) == 0) {
    at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  }
  if (at == MAP_FAILED) {
    const Status status = SystemError("mmap (huge pages)", bytes);
    close(fd_);
    fd_ = -1;
    return status;
  }
  data_ = static_cast<std::byte*>(at);
  bytes_ = bytes;
  (void)fcntl(fd_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  return OkStatus();
}

Status Mapping::OpenPages(uint64_t bytes) {
  fd_ = memfd_create("passband-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd_ < 0) return SystemError("memfd_create", bytes);
  if (ftruncate(fd_, static_cast<off_t>(bytes)) != 0) return SystemError("ftruncate", bytes);
  if (fcntl(fd_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return SystemError("sealing the memfd", bytes);
  }
  bytes_ = bytes;
  return OkStatus();
}

// Transparent huge pages need an address that is a multiple of their size: a
// stretch one huge page longer is reserved, and its ends are given back.
Status Mapping::Map(bool huge_pages) {
  const uint64_t slack = huge_pages ? kHugePage : 0;
  void* reserved =
      mmap(nullptr, bytes_ + slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return SystemError("mmap", bytes_);
  auto* begin = static_cast<std::byte*>(reserved);
  const uint64_t address = reinterpret_cast<uint64_t>(begin);
  const uint64_t skip = huge_pages ? RoundUp(address, kHugePage) - address : 0;
  void* at = mmap(begin + skip, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd_, 0);
  const Status status = at == MAP_FAILED ? SystemError("mmap", bytes_) : OkStatus();
  if (skip > 0) munmap(begin, skip);
  if (slack > skip) munmap(begin + skip + bytes_, slack - skip);
  if (!status.ok()) {
    munmap(begin + skip, bytes_);
    return status;
  }
  data_ = static_cast<std::byte*>(at);
  // Refused where the kernel has no transparent huge pages: then without.
  if (huge_pages) (void)madvise(data_, bytes_, MADV_HUGEPAGE);
  return OkStatus();
}

Status Mapping::PreTouch(uint32_t threads) const {
  if (threads == 0) threads = std::clamp(std::thread::hardware_concurrency(), 1u, 16u);
  std::atomic<uint64_t> next{0};
  std::atomic<bool> failed{false};
  const auto touch = [&](const std::stop_token&) {
    for (uint64_t at = next.fetch_add(kTouchPiece); at < bytes_ && !failed;
         at = next.fetch_add(kTouchPiece)) {
      if (!Populate(data_ + at, std::min(kTouchPiece, bytes_ - at))) failed = true;
    }
  };
  {
    std::vector<std::jthread> workers;
    const uint64_t pieces = (bytes_ + kTouchPiece - 1) / kTouchPiece;
    for (uint64_t i = 1; i < std::min<uint64_t>(threads, pieces); ++i) {
      workers.push_back(StartThread(fmt::format("pretouch-{}", i), touch));
    }
    touch({});
  }
  if (!failed) return OkStatus();
  return Error(StatusCode::kResourceExhausted,
               "{} of RAM asked for, but not all pages came: {} left", FormatBytes(bytes_),
               FormatBytes(AvailableMemory()));
}

uint64_t Mapping::huge_page_bytes() const {
  const uint64_t begin = reinterpret_cast<uint64_t>(data_);
  std::ifstream smaps("/proc/self/smaps");
  std::string line;
  bool inside = false;
  uint64_t kib = 0;
  while (std::getline(smaps, line)) {
    uint64_t from = 0;
    uint64_t to = 0;
    char dash = 0;
    std::istringstream range(line);
    if (line.find('-') != line.npos && range >> std::hex >> from >> dash >> to && dash == '-') {
      inside = from >= begin && to <= begin + bytes_;
    } else if (inside &&
               (line.starts_with("ShmemPmdMapped:") || line.starts_with("Shared_Hugetlb:") ||
                line.starts_with("Private_Hugetlb:"))) {
      kib += std::stoull(line.substr(line.find(':') + 1));
    }
  }
  return kib * kKiB;
}

}  // namespace passband
