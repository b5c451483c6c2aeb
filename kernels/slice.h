// Slice: the dominant chunks of a key, encoded (DESIGN: a pure function of row
// and profile, the same bits on every backend).
//
// Shapes   keys: token i at keys + i * stride_bytes, head_dim elements of
//          shape.dtype, after RoPE. slices: [tokens][SliceBytes].
// Result   deterministic and bit-identical between backends: each component is
//          widened to float, the code computed in float with the operations of
//          types.h in that order, no fused multiply-add. NaN encodes as code 0
//          (bf16: canonical NaN 0x7fc0, fp8: 0x7f); out of range saturates.
// Bits     component c of an int4 slice is in byte c / 2, low nibble first; of
//          an int2 slice in byte c / 4, lowest bits first; little-endian 16 bit.
// Threads  safe; pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/types.h"

namespace passband::kernels {

// The slice recipe of one (layer, kv head): which chunks, and the mean and
// deviation per component (2 * chunks values in component order; only the int
// encodings read them; deviation > 0).
struct SliceSpec {
  HeadShape shape;
  SliceEncoding encoding = SliceEncoding::kInt2;
  std::vector<uint16_t> chunks;
  std::vector<float> mean;
  std::vector<float> deviation;

  int components() const { return 2 * static_cast<int>(chunks.size()); }
  size_t slice_bytes() const { return SliceBytes(encoding, static_cast<int>(chunks.size())); }
};

// Encodes `tokens` keys. `slices` holds tokens * spec.slice_bytes() bytes.
void EncodeSlices(const SliceSpec& spec, const std::byte* keys, size_t stride_bytes, size_t tokens,
                  std::byte* slices);

// The components of one slice as floats [spec.components()], in component order.
void DecodeSlice(const SliceSpec& spec, const std::byte* slice, float* components);

}  // namespace passband::kernels
