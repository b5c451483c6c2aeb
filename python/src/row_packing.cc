#include "src/row_packing.h"

#include <cstring>

namespace passband::python {

void PackRows(const HeadTokens& keys, const HeadTokens& values, uint32_t kv_heads, size_t dim_bytes,
              uint64_t first, uint64_t count, std::byte* out) {
  for (int64_t head = 0; head < kv_heads; ++head) {
    const std::byte* key = keys.data + head * keys.head_stride;
    const std::byte* value = values.data + head * values.head_stride;
    for (uint64_t i = first; i < first + count; ++i) {
      const auto token = static_cast<int64_t>(i);
      std::memcpy(out, key + token * keys.token_stride, dim_bytes);
      std::memcpy(out + dim_bytes, value + token * values.token_stride, dim_bytes);
      out += 2 * dim_bytes;
    }
  }
}

}  // namespace passband::python
