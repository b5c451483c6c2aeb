// LandingPool: registered memory that replies land in and appended rows are sent
// from, in huge pages.
//
// Buffers of like size are cut from one slab; the buffer freed last is given out
// first, because its pages are warm. The pool grows to a cap and then gives slabs
// without a user back to the system to make room for other sizes.
//
// Units      bytes.
// Threads    safe.
// Ownership  a LandingBuffer keeps its pool; memory goes when both are gone.
//            Who cannot prove that nobody writes to a buffer any more must keep it.
// Errors     kResourceExhausted (the cap, or no memory) names the setting.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"
#include "transport/ucx_context.h"
#include "transport/ucx_memory.h"

namespace passband {

class LandingPool;

// Move-only; returns its memory to the pool when destroyed.
class LandingBuffer {
 public:
  LandingBuffer() = default;
  ~LandingBuffer();
  LandingBuffer(LandingBuffer&& other) noexcept;
  LandingBuffer& operator=(LandingBuffer&& other) noexcept;

  // As many bytes as were asked for.
  std::span<std::byte> bytes() const { return bytes_; }
  const transport::UcxMemory* memory() const { return memory_; }

 private:
  friend class LandingPool;
  std::shared_ptr<LandingPool> pool_;
  void* slab_ = nullptr;
  std::span<std::byte> bytes_;
  const transport::UcxMemory* memory_ = nullptr;
};

class LandingPool : public std::enable_shared_from_this<LandingPool> {
 public:
  struct Options {
    uint64_t max_bytes = 0;
    std::string setting;  // What the operator raises when `max_bytes` is too small.
  };

  // `context` may be null: then the memory is not registered.
  static std::shared_ptr<LandingPool> Create(std::shared_ptr<transport::UcxContext> context,
                                             Options options);
  ~LandingPool();
  LandingPool(const LandingPool&) = delete;
  LandingPool& operator=(const LandingPool&) = delete;

  // At least one byte; the content is undefined.
  StatusOr<LandingBuffer> Allocate(uint64_t bytes);

  // Bytes of buffers given out and not yet back, rounded up as the pool does.
  uint64_t used_bytes() const;
  // Bytes mapped.
  uint64_t mapped_bytes() const;

 private:
  friend class LandingBuffer;
  struct Impl;
  explicit LandingPool(std::unique_ptr<Impl> impl);
  void Free(void* slab, std::byte* bytes);

  std::unique_ptr<Impl> impl_;
};

}  // namespace passband
