#include "kvstore/io_buffers.h"

#include <sys/mman.h>

#include <cstdint>
#include <utility>

namespace passband {
namespace {

// Aligned to its size: the stretch mapped is twice as long, and its ends are given back.
char* MapBuffer() {
  constexpr size_t kBytes = IoBuffers::kBytes;
  void* mapped =
      mmap(nullptr, 2 * kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* begin = static_cast<char*>(mapped);
  const size_t skip = kBytes - reinterpret_cast<uintptr_t>(begin) % kBytes;
  munmap(begin, skip);
  if (skip != kBytes) munmap(begin + skip + kBytes, kBytes - skip);
  // Refused where the kernel has no transparent huge pages: then without.
  (void)madvise(begin + skip, kBytes, MADV_HUGEPAGE);
  (void)madvise(begin + skip, kBytes, MADV_DONTDUMP);
  return begin + skip;
}

}  // namespace

IoBuffers::Buffer& IoBuffers::Buffer::operator=(Buffer&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(data_, other.data_);
  return *this;
}

IoBuffers::Buffer::~Buffer() {
  if (data_ != nullptr) pool_->GiveBack(data_);
}

IoBuffers::~IoBuffers() {
  for (char* data : free_) munmap(data, kBytes);
}

IoBuffers::Buffer IoBuffers::Get() {
  char* data = nullptr;
  {
    MutexLock lock(mutex_);
    if (!free_.empty()) {
      data = free_.back();
      free_.pop_back();
    }
  }
  if (data == nullptr) data = MapBuffer();
  if (data == nullptr) return {};
  return {shared_from_this(), data};
}

void IoBuffers::GiveBack(char* data) {
  {
    MutexLock lock(mutex_);
    if (free_.size() < kept_) {
      free_.push_back(data);
      return;
    }
  }
  munmap(data, kBytes);
}

}  // namespace passband
