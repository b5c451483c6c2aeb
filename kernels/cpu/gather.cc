#include "kernels/gather.h"

#include <cstring>

namespace passband::kernels {
namespace {

constexpr size_t kCacheLine = 64;

// Always inlined: GCC takes a function that only prefetches for one without effect.
[[gnu::always_inline]] inline void PrefetchRow(const std::byte* row, size_t row_bytes) {
  for (size_t offset = 0; offset < row_bytes; offset += kCacheLine) {
    __builtin_prefetch(row + offset);
  }
}

}  // namespace

void GatherRows(std::span<const std::byte* const> rows, size_t row_bytes, std::byte* out) {
  const size_t count = rows.size();
  for (size_t i = 0; i < count && i < kGatherPrefetchDistance; ++i) PrefetchRow(rows[i], row_bytes);
  for (size_t i = 0; i < count; ++i) {
    if (i + kGatherPrefetchDistance < count) {
      PrefetchRow(rows[i + kGatherPrefetchDistance], row_bytes);
    }
    std::memcpy(out + i * row_bytes, rows[i], row_bytes);
  }
}

}  // namespace passband::kernels
