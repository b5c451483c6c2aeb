// Tile: how the GPU's slice index lies in memory. Tokens come in tiles of 128, one
// after the other without gaps; the codes within a tile are in the order in which the
// matrix instructions take them, so that a warp reads a tile in whole 16 byte loads and
// nothing has to be exchanged.
//
// Int encodings  16 components are a step (the last is padded with code 0). A tile is
//   `units` x 32 lanes x 16 bytes; lane 4 g + q, as words 4 u + w of its units u, holds
//   for each step and each of 16 tokens the codes of components 16 step + 4 q + 0..3,
//   one to a byte, of several tokens side by side in a word: those of token n are in word
//   n / per word * steps + step, at bits * (n % per word) of each byte. Token n of a lane
//   is token TokenOf(n, g) of the tile.
// bf16, fp8  unit u of token t, its slice's bytes 16 u .. 16 u + 15, is at (u * 128 + t)
//   * 16; bytes past the slice are zero.
//
// Contract  plain arithmetic, for the host and the device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/types.h"

#ifdef __CUDACC__
#define PASSBAND_DEVICE_TOO __host__ __device__
#else
#define PASSBAND_DEVICE_TOO
#endif

namespace passband::kernels::cuda {

inline constexpr uint32_t kTileTokens = 128;
inline constexpr int kStepComponents = 16;

// What the slices of all kv heads of a layer have in common.
struct SliceShape {
  HeadShape head;
  SliceEncoding encoding = SliceEncoding::kInt2;
  uint16_t chunks = 24;

  PASSBAND_DEVICE_TOO constexpr int components() const { return 2 * chunks; }
  PASSBAND_DEVICE_TOO constexpr int steps() const {
    return (components() + kStepComponents - 1) / kStepComponents;
  }
  PASSBAND_DEVICE_TOO constexpr uint32_t slice_bytes() const {
    return static_cast<uint32_t>(SliceBytes(encoding, chunks));
  }
  // 16 byte units: of one lane for the int encodings, else of one token.
  PASSBAND_DEVICE_TOO constexpr uint32_t units() const {
    return IsIntEncoding(encoding) ? static_cast<uint32_t>(steps() * BitsPerComponent(encoding)) / 2
                                   : (slice_bytes() + 15) / 16;
  }
  PASSBAND_DEVICE_TOO constexpr uint32_t tile_bytes() const {
    return units() * 16 * (IsIntEncoding(encoding) ? 32U : kTileTokens);
  }
  constexpr size_t index_bytes(size_t tokens) const {
    return (tokens + kTileTokens - 1) / kTileTokens * tile_bytes();
  }
};

// Tokens whose codes share a 32 bit word.
PASSBAND_DEVICE_TOO constexpr int TokensPerWord(SliceEncoding encoding) {
  return 8 / BitsPerComponent(encoding);
}

// The tile's token that is token `n` (of 16) of the lanes 4 g + 0..3, and back.
PASSBAND_DEVICE_TOO constexpr uint32_t TokenOf(uint32_t n, uint32_t g) {
  return n / 4 * 32 + n % 2 * 16 + n / 2 % 2 * 8 + g;
}
struct LaneToken {
  uint32_t n;
  uint32_t g;
};
PASSBAND_DEVICE_TOO constexpr LaneToken LaneTokenOf(uint32_t token) {
  return {token / 32 * 4 + token / 16 % 2 + token / 8 % 2 * 2, token % 8};
}

// Where 32 bit word `word` of lane `lane` is in a tile of an int encoding.
PASSBAND_DEVICE_TOO constexpr uint32_t WordOffset(uint32_t lane, uint32_t word) {
  return ((word / 4 * 32 + lane) * 4 + word % 4) * 4;
}

}  // namespace passband::kernels::cuda
