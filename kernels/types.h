// Types: shapes, element types and encodings that every kernel shares.
//
// Contract  plain values; no I/O, no allocation, nothing of ours included.
#pragma once

#include <cstddef>
#include <cstdint>

namespace passband::kernels {

inline constexpr int kMaxHeadDim = 256;
inline constexpr int kMaxGroup = 16;    // query heads that share one kv head
inline constexpr int kMaxChunks = 128;  // kMaxHeadDim / 2

// Element type of keys, values and rows. Little-endian.
enum class DType : uint8_t { kBf16 = 0, kF16 = 1, kF32 = 2 };

constexpr size_t DTypeBytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// Which two dimensions RoPE rotates together (a frequency chunk, FC):
//   kHalf         (i, i + rotary_dim / 2)   Llama, Qwen, Mistral in Transformers
//   kInterleaved  (2i, 2i + 1)              GPT-J, GPT-NeoX original, Meta's Llama
enum class RopeLayout : uint8_t { kHalf = 0, kInterleaved = 1 };

// One attention head as it is stored.
struct HeadShape {
  uint16_t head_dim = 128;
  uint16_t rotary_dim = 128;  // <= head_dim, even; dims past it are not rotated
  RopeLayout layout = RopeLayout::kHalf;
  DType dtype = DType::kBf16;

  constexpr int chunks() const { return rotary_dim / 2; }
  constexpr size_t key_bytes() const { return head_dim * DTypeBytes(dtype); }
  // A row: one token's [K | V].
  constexpr size_t row_bytes() const { return 2 * key_bytes(); }
  constexpr bool operator==(const HeadShape&) const = default;
};

// The two dimensions of chunk `chunk`, 0 <= chunk < shape.chunks().
struct ChunkDims {
  int first = 0;
  int second = 0;
};
constexpr ChunkDims DimsOfChunk(const HeadShape& shape, int chunk) {
  return shape.layout == RopeLayout::kHalf ? ChunkDims{chunk, chunk + shape.rotary_dim / 2}
                                           : ChunkDims{2 * chunk, 2 * chunk + 1};
}

// How a slice stores the components of its chunks. Component order in a slice:
// first dims of all chunks in set order, then second dims of all chunks.
//   kBf16  16 bit, round to nearest even of the component
//   kFp8   e4m3fn of the component, saturating, round to nearest even
//   kInt8, kInt4, kInt2  z = (k - mean) / deviation per channel, code =
//          clamp(floor(z / step + levels / 2), 0, levels - 1), decoded as
//          mean + deviation * step * (code - (levels - 1) / 2);
//          levels 256 / 16 / 4, step 0.03 / 0.34 / 1.0.
enum class SliceEncoding : uint8_t { kBf16 = 0, kFp8 = 1, kInt8 = 2, kInt4 = 3, kInt2 = 4 };

constexpr int BitsPerComponent(SliceEncoding encoding) {
  switch (encoding) {
    case SliceEncoding::kBf16:
      return 16;
    case SliceEncoding::kFp8:
    case SliceEncoding::kInt8:
      return 8;
    case SliceEncoding::kInt4:
      return 4;
    case SliceEncoding::kInt2:
      return 2;
  }
  return 0;
}

// Levels and step of the int encodings; 0 for the float ones.
constexpr int LevelsOf(SliceEncoding encoding) {
  switch (encoding) {
    case SliceEncoding::kInt8:
      return 256;
    case SliceEncoding::kInt4:
      return 16;
    case SliceEncoding::kInt2:
      return 4;
    case SliceEncoding::kBf16:
    case SliceEncoding::kFp8:
      return 0;
  }
  return 0;
}
constexpr float StepOf(SliceEncoding encoding) {
  switch (encoding) {
    case SliceEncoding::kInt8:
      return 0.03F;
    case SliceEncoding::kInt4:
      return 0.34F;
    case SliceEncoding::kInt2:
      return 1.0F;
    case SliceEncoding::kBf16:
    case SliceEncoding::kFp8:
      return 0.0F;
  }
  return 0.0F;
}
constexpr bool IsIntEncoding(SliceEncoding encoding) { return LevelsOf(encoding) > 0; }

// Bytes of one slice of `chunks` chunks; the last byte's unused bits are zero.
constexpr size_t SliceBytes(SliceEncoding encoding, int chunks) {
  return (static_cast<size_t>(2 * chunks) * static_cast<size_t>(BitsPerComponent(encoding)) + 7) /
         8;
}

}  // namespace passband::kernels
