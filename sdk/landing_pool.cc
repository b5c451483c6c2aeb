#include "sdk/landing_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <list>
#include <map>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/units.h"

namespace passband {
namespace {

constexpr uint64_t kHugePage = 2 * kMiB;
constexpr uint64_t kSlabBytes = 4 * kMiB;
constexpr uint64_t kSmallest = 4 * kKiB;

// Four sizes to a power of two: a quarter of a buffer is wasted at most.
uint64_t RoundToClass(uint64_t bytes) {
  if (bytes <= kSmallest) return kSmallest;
  const uint64_t step = std::bit_floor(bytes - 1) / 4;
  return (bytes + step - 1) / step * step;
}

uint64_t RoundUp(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

// Anonymous memory aligned to huge pages.
std::byte* MapHuge(uint64_t bytes) {
  void* raw = ::mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  const auto begin = reinterpret_cast<uintptr_t>(raw);
  const uint64_t before = RoundUp(begin, kHugePage) - begin;
  std::byte* const out = static_cast<std::byte*>(raw) + before;
  if (before > 0) ::munmap(raw, before);
  if (before < kHugePage) ::munmap(out + bytes, kHugePage - before);
  ::madvise(out, bytes, MADV_HUGEPAGE);  // Slower without, and still right.
  return out;
}

// One mapping, cut into buffers of one size.
struct Slab {
  std::byte* begin = nullptr;
  uint64_t mapped_bytes = 0;
  uint64_t buffer_bytes = 0;
  std::unique_ptr<transport::UcxMemory> memory;
  std::vector<std::byte*> free;
  uint64_t used = 0;

  ~Slab() {
    memory.reset();
    if (begin != nullptr) ::munmap(begin, mapped_bytes);
  }
};

}  // namespace

struct LandingPool::Impl {
  using Slabs = std::list<std::unique_ptr<Slab>>;

  std::shared_ptr<transport::UcxContext> context;
  Options options;
  mutable Mutex mutex;
  std::map<uint64_t, Slabs> classes ABSL_GUARDED_BY(mutex);  // By buffer size.
  uint64_t used ABSL_GUARDED_BY(mutex) = 0;
  uint64_t mapped ABSL_GUARDED_BY(mutex) = 0;

  Slab* FindFree(uint64_t buffer_bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const auto found = classes.find(buffer_bytes);
    if (found == classes.end()) return nullptr;
    for (const auto& slab : found->second) {
      if (!slab->free.empty()) return slab.get();
    }
    return nullptr;
  }

  // Unmaps slabs that nobody uses until `bytes` more fit below the cap.
  void MakeRoom(uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    for (auto& [size, slabs] : classes) {
      for (auto slab = slabs.begin(); slab != slabs.end();) {
        if (mapped + bytes <= options.max_bytes) return;
        if ((*slab)->used == 0) {
          mapped -= (*slab)->mapped_bytes;
          slab = slabs.erase(slab);
        } else {
          ++slab;
        }
      }
    }
  }

  StatusOr<Slab*> Grow(uint64_t buffer_bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const uint64_t slab_bytes = std::max(kSlabBytes, RoundUp(buffer_bytes, kHugePage));
    if (mapped + slab_bytes > options.max_bytes) MakeRoom(slab_bytes);
    if (mapped + slab_bytes > options.max_bytes) {
      return Error(StatusCode::kResourceExhausted,
                   "{} more of transfer memory do not fit in {} of {} ({} in use): raise it, or "
                   "keep fewer answers alive",
                   FormatBytes(static_cast<double>(slab_bytes)), options.setting,
                   FormatBytes(static_cast<double>(options.max_bytes)),
                   FormatBytes(static_cast<double>(used)));
    }
    auto slab = std::make_unique<Slab>();
    slab->begin = MapHuge(slab_bytes);
    if (slab->begin == nullptr) {
      return Error(StatusCode::kResourceExhausted, "cannot map {} of transfer memory: {}",
                   FormatBytes(static_cast<double>(slab_bytes)), std::strerror(errno));
    }
    slab->mapped_bytes = slab_bytes;
    slab->buffer_bytes = buffer_bytes;
    if (context != nullptr) {
      PASSBAND_ASSIGN_OR_RETURN(slab->memory,
                                transport::UcxMemory::Register(context, {slab->begin, slab_bytes}));
    }
    for (uint64_t n = slab_bytes / buffer_bytes; n > 0; --n) {
      slab->free.push_back(slab->begin + (n - 1) * buffer_bytes);
    }
    mapped += slab_bytes;
    return classes[buffer_bytes].emplace_front(std::move(slab)).get();
  }
};

LandingPool::LandingPool(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LandingPool::~LandingPool() = default;

std::shared_ptr<LandingPool> LandingPool::Create(std::shared_ptr<transport::UcxContext> context,
                                                 Options options) {
  auto impl = std::make_unique<Impl>();
  impl->context = std::move(context);
  impl->options = std::move(options);
  return std::shared_ptr<LandingPool>(new LandingPool(std::move(impl)));
}

StatusOr<LandingBuffer> LandingPool::Allocate(uint64_t bytes) {
  const uint64_t size = RoundToClass(std::max<uint64_t>(bytes, 1));
  MutexLock lock(impl_->mutex);
  Slab* slab = impl_->FindFree(size);
  if (slab == nullptr) {
    PASSBAND_ASSIGN_OR_RETURN(slab, impl_->Grow(size));
  }
  LandingBuffer out;
  out.pool_ = shared_from_this();
  out.slab_ = slab;
  out.bytes_ = {slab->free.back(), bytes};
  out.memory_ = slab->memory.get();
  slab->free.pop_back();
  ++slab->used;
  impl_->used += size;
  return out;
}

void LandingPool::Free(void* slab, std::byte* bytes) {
  MutexLock lock(impl_->mutex);
  auto* owner = static_cast<Slab*>(slab);
  owner->free.push_back(bytes);
  --owner->used;
  impl_->used -= owner->buffer_bytes;
}

uint64_t LandingPool::used_bytes() const {
  MutexLock lock(impl_->mutex);
  return impl_->used;
}

uint64_t LandingPool::mapped_bytes() const {
  MutexLock lock(impl_->mutex);
  return impl_->mapped;
}

LandingBuffer::~LandingBuffer() {
  if (pool_ != nullptr) pool_->Free(slab_, bytes_.data());
}

LandingBuffer::LandingBuffer(LandingBuffer&& other) noexcept
    : pool_(std::move(other.pool_)),
      slab_(std::exchange(other.slab_, nullptr)),
      bytes_(std::exchange(other.bytes_, {})),
      memory_(std::exchange(other.memory_, nullptr)) {}

LandingBuffer& LandingBuffer::operator=(LandingBuffer&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(slab_, other.slab_);
  std::swap(bytes_, other.bytes_);
  std::swap(memory_, other.memory_);
  return *this;
}

}  // namespace passband
