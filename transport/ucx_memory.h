// UcxMemory: a region of our memory that UCX knows, so that sends from it and
// receives into it skip registration. Register large regions once, at start.
//
// Threads    immutable; may be shared by threads.
// Ownership  shares its context; the memory stays the caller's, and must outlive
//            this and every transfer that names it.
// Errors     kResourceExhausted (most often RLIMIT_MEMLOCK; the message says so)
//            or kInvalidArgument.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "base/status.h"
#include "transport/ucx_context.h"

struct ucp_mem;

namespace passband::transport {

class UcxMemory {
 public:
  static StatusOr<std::unique_ptr<UcxMemory>> Register(std::shared_ptr<UcxContext> context,
                                                       std::span<std::byte> region);
  ~UcxMemory();

  UcxMemory(const UcxMemory&) = delete;
  UcxMemory& operator=(const UcxMemory&) = delete;

  bool Contains(std::span<const std::byte> bytes) const;
  std::span<std::byte> region() const { return region_; }
  ucp_mem* handle() const { return handle_; }

 private:
  UcxMemory(std::shared_ptr<UcxContext> context, ucp_mem* handle, std::span<std::byte> region);

  std::shared_ptr<UcxContext> context_;
  ucp_mem* handle_;
  std::span<std::byte> region_;
};

}  // namespace passband::transport
