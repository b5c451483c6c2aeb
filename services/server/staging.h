// Staging: the memory of one data thread (registered, where UCX is used), where replies are put together and partial
// appends are received.
//
// Cut into pages of 64 KiB; a buffer is a run of neighbouring pages, the lowest that fits: what
// was used last is used next, while the cache still has it. Buffers come back in any order, so a
// peer that does not read its reply holds its own pages and no more.
//
// Units      bytes.
// Threads    its data thread.
// Ownership  owns the memory; must outlive every Buffer.
// Errors     kResourceExhausted when the memory cannot be had.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/status.h"
#include "kvstore/mapping.h"
#include "transport/ucx_memory.h"

namespace passband::server {

class Staging {
 public:
  static constexpr size_t kPageBytes = 64 * 1024;

  // Pages of the staging memory; given back when destroyed.
  class Buffer {
   public:
    Buffer() = default;
    Buffer(Buffer&& other) noexcept
        : staging_(std::exchange(other.staging_, nullptr)),
          bytes_(std::exchange(other.bytes_, {})) {}
    Buffer& operator=(Buffer&& other) noexcept {
      std::swap(staging_, other.staging_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Buffer() {
      if (staging_ != nullptr) staging_->Release(bytes_);
    }

    std::span<std::byte> bytes() const { return bytes_; }

   private:
    friend class Staging;
    Buffer(Staging* staging, std::span<std::byte> bytes) : staging_(staging), bytes_(bytes) {}

    Staging* staging_ = nullptr;
    std::span<std::byte> bytes_;
  };

  // Maps `bytes`, rounded up to whole pages, and registers them, unless `context` is null.
  static StatusOr<std::unique_ptr<Staging>> Create(std::shared_ptr<transport::UcxContext> context,
                                                   uint64_t bytes, bool huge_pages);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // `bytes` > 0 of arbitrary content; nullopt while there is no run so long.
  std::optional<Buffer> Allocate(size_t bytes);

  // Null without UCX.
  const transport::UcxMemory* memory() const { return memory_.get(); }
  uint64_t capacity_bytes() const { return pages_.size() * kPageBytes; }
  uint64_t used_bytes() const { return used_pages_ * kPageBytes; }

 private:
  Staging(std::unique_ptr<Mapping> mapping, size_t pages,
          std::unique_ptr<transport::UcxMemory> memory);
  void Release(std::span<std::byte> bytes);

  const std::unique_ptr<Mapping> mapping_;
  const std::unique_ptr<transport::UcxMemory> memory_;
  std::vector<bool> pages_;  // taken
  size_t first_free_ = 0;    // no free page before it
  size_t used_pages_ = 0;
};

}  // namespace passband::server
