// Row packing: keys and values, as models lay them out, into rows [K | V] and back.
//
// Units      tokens, heads; strides in bytes.
// Threads    pure; without the GIL.
// Ownership  borrows what it reads.
#pragma once

#include <cstddef>
#include <cstdint>

namespace passband::python {

// One of keys and values: element [head][token] is `dim_bytes` contiguous bytes.
struct HeadTokens {
  const std::byte* data = nullptr;
  int64_t head_stride = 0;
  int64_t token_stride = 0;
};

// Writes [kv_heads][count][K | V] of tokens [first, first + count).
void PackRows(const HeadTokens& keys, const HeadTokens& values, uint32_t kv_heads, size_t dim_bytes,
              uint64_t first, uint64_t count, std::byte* out);

}  // namespace passband::python
