#include "sdk/page_buffer.h"

#include <sys/mman.h>

#include <cstdint>

#include "base/status.h"

namespace passband {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t RoundUp(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

std::byte* Map(size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  PASSBAND_CHECK(data != MAP_FAILED);
  return static_cast<std::byte*>(data);
}

}  // namespace

PageBuffer::PageBuffer(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  if (bytes < kHugePage) {
    data_ = {Map(bytes), Unmap{bytes}};
    return;
  }
  // The kernel only backs aligned 2 MiB ranges with huge pages: map more than
  // needed, and give the ends back.
  const size_t mapped = RoundUp(bytes, kHugePage);
  std::byte* start = Map(mapped + kHugePage);
  const size_t head =
      RoundUp(reinterpret_cast<uintptr_t>(start), kHugePage) - reinterpret_cast<uintptr_t>(start);
  if (head > 0) munmap(start, head);
  if (head < kHugePage) munmap(start + head + mapped, kHugePage - head);
  data_ = {start + head, Unmap{mapped}};
  madvise(data_.get(), mapped, MADV_HUGEPAGE);  // Advice: small pages work too.
}

void PageBuffer::Unmap::operator()(std::byte* data) const { munmap(data, mapped); }

}  // namespace passband
