// Mapping: one stretch of RAM backed by a memfd, so that a process of the same
// host that is given fd() sees the very same pages.
//
// The memfd can neither shrink nor grow: whoever maps it never meets SIGBUS.
// Huge pages come from the reserved pool (vm.nr_hugepages) when that holds
// enough, else from the kernel's transparent ones, which for shared memory
// depend on /sys/kernel/mm/transparent_hugepage/shmem_enabled ("advise" or
// "always"). huge_page_bytes() says what was got.
//
// Units      bytes.
// Threads    safe after Create; what the bytes mean is the user's affair.
// Ownership  unmaps and closes when destroyed.
// Errors     kInvalidArgument   no bytes asked for
//            kResourceExhausted more than the machine or its cgroup can give,
//                               or than may be locked
//            kInternal          the kernel refused for another reason
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/status.h"

namespace passband {

class Mapping {
 public:
  struct Options {
    uint64_t bytes = 0;  // rounded up to whole pages
    bool huge_pages = true;
    bool pre_touch = true;       // every page is there when Create returns
    bool lock = false;           // mlock: never swapped
    uint32_t touch_threads = 0;  // 0: one a core, 16 at most
  };

  static StatusOr<std::unique_ptr<Mapping>> Create(const Options& options);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  int fd() const { return fd_; }
  // Bytes of the mapping that huge pages back now. Reads /proc: not for a hot
  // path.
  uint64_t huge_page_bytes() const;

 private:
  Mapping() = default;
  Status OpenReserved(uint64_t bytes);
  Status OpenPages(uint64_t bytes);
  Status Map(bool huge_pages);
  Status PreTouch(uint32_t threads) const;

  int fd_ = -1;
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace passband
