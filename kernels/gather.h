// Gather: copies scattered rows next to each other, prefetching ahead.
//
// Threads  safe; pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace passband::kernels {

inline constexpr size_t kGatherPrefetchDistance = 16;

// out: rows.size() * row_bytes bytes, not overlapping any row.
void GatherRows(std::span<const std::byte* const> rows, size_t row_bytes, std::byte* out);

}  // namespace passband::kernels
