// Gather on the GPU: copies scattered rows next to each other, also straight from pinned
// host memory.
//
// Stream   one launch, nothing waits; capturable.
// Threads  safe.
// Errors   rows or places that are not multiples of 16 bytes are kInvalidArgument.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "kernels/cuda/device.h"

namespace passband::kernels::cuda {

// Row i goes to out + i * row_bytes; `count`, when not null, says how many of max_rows.
struct GatherArgs {
  const std::byte* const* rows = nullptr;  // device
  uint32_t max_rows = 0;
  const uint32_t* count = nullptr;  // device
  size_t row_bytes = 0;
  std::byte* out = nullptr;  // device
};
absl::Status GatherRows(const GatherArgs& args, StreamHandle stream);

}  // namespace passband::kernels::cuda
