#include <cuda_runtime.h>

#include "kernels/cuda/codes.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tile.h"

namespace passband::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// The codes of one problem's tokens, from keys or from slices.
struct KeyCodes {
  const std::byte* keys;
  size_t stride;
  const DeviceRecipe* recipe;
  SliceShape shape;
  __device__ uint32_t At(uint32_t token, uint32_t component) const {
    const float value =
        LoadElement(keys + token * stride, recipe->dims[component], shape.head.dtype);
    return EncodeComponent(shape.encoding, value, recipe->mean[component],
                           recipe->deviation[component]);
  }
};
struct SliceCodes {
  const std::byte* slices;
  size_t stride;
  SliceShape shape;
  __device__ uint32_t At(uint32_t token, uint32_t component) const {
    const auto* slice = reinterpret_cast<const uint8_t*>(slices + token * stride);
    const uint32_t bits = BitsPerComponent(shape.encoding);
    if (bits == 16) return slice[2 * component] | slice[2 * component + 1] << 8;
    const uint32_t at = component * bits;
    return slice[at / 8] >> at % 8 & ((1U << bits) - 1);
  }
};

template <class Codes>
__device__ void WriteSliceByte(const Codes& codes, const SliceShape& shape, uint32_t token,
                               uint32_t byte, std::byte* out) {
  const uint32_t bits = BitsPerComponent(shape.encoding);
  uint32_t value = 0;
  if (bits == 16) {
    value = codes.At(token, byte / 2) >> byte % 2 * 8 & 0xffU;
  } else {
    const uint32_t first = byte * 8 / bits;
    for (uint32_t i = 0; i < 8 / bits; ++i) {
      if (first + i < shape.components()) value |= codes.At(token, first + i) << i * bits;
    }
  }
  *out = static_cast<std::byte>(value);
}

__global__ void EncodeKernel(KeyCodes codes, uint32_t tokens, std::byte* slices) {
  const uint32_t slice_bytes = codes.shape.slice_bytes();
  const uint64_t at = uint64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= uint64_t{tokens} * slice_bytes) return;
  WriteSliceByte(codes, codes.shape, static_cast<uint32_t>(at / slice_bytes),
                 static_cast<uint32_t>(at % slice_bytes), slices + at);
}

// Of a word of a tile: the bits of tokens [begin, end) (of the problem), and a mask of
// those bits. `first` is the tile's first token.
struct WordBits {
  uint32_t value = 0;
  uint32_t mask = 0;
};
template <class Codes>
__device__ WordBits IntWord(const Codes& codes, const SliceShape& shape, uint32_t word,
                            uint32_t first, uint32_t begin, uint32_t end) {
  const uint32_t lane = word / 4 % 32;
  const uint32_t lane_word = word / 128 * 4 + word % 4;
  const uint32_t per_word = TokensPerWord(shape.encoding);
  const uint32_t bits = BitsPerComponent(shape.encoding);
  const uint32_t steps = shape.steps();
  const uint32_t component = lane_word % steps * kStepComponents + lane % 4 * 4;
  WordBits result;
  for (uint32_t i = 0; i < per_word; ++i) {
    const uint32_t token = first + TokenOf(lane_word / steps * per_word + i, lane / 4);
    if (token < begin || token >= end) continue;
    for (uint32_t c = 0; c < 4; ++c) {
      const uint32_t shift = c * 8 + i * bits;
      result.mask |= ((1U << bits) - 1) << shift;
      if (component + c < shape.components()) {
        result.value |= codes.At(token - begin, component + c) << shift;
      }
    }
  }
  return result;
}
template <class Codes>
__device__ WordBits FloatWord(const Codes& codes, const SliceShape& shape, uint32_t word,
                              uint32_t first, uint32_t begin, uint32_t end) {
  const uint32_t token = first + word / 4 % kTileTokens;
  if (token < begin || token >= end) return {};
  const uint32_t bits = BitsPerComponent(shape.encoding);
  const uint32_t component = (word / 4 / kTileTokens * 16 + word % 4 * 4) * 8 / bits;
  WordBits result = {0, 0xffffffffU};
  for (uint32_t c = 0; c < 32 / bits; ++c) {
    if (component + c < shape.components()) {
      result.value |= codes.At(token - begin, component + c) << c * bits;
    }
  }
  return result;
}

struct IndexParams {
  SliceShape shape;
  const DeviceRecipe* recipes;
  uint32_t kv_heads;
  uint32_t tokens;
  const uint32_t* begin;
  std::byte* const* tiles;
  const std::byte* data;
  size_t problem_stride;
  size_t token_stride;
};

// Each word of the tiles that [begin, end) touches is one thread's alone.
template <class Codes>
__device__ void AppendWords(const IndexParams& p, const Codes& codes, uint32_t begin,
                            std::byte* tiles) {
  const uint32_t end = begin + p.tokens;
  const uint32_t tile_words = p.shape.tile_bytes() / 4;
  const uint32_t first_tile = begin / kTileTokens;
  const uint64_t words = uint64_t{(end - 1) / kTileTokens - first_tile + 1} * tile_words;
  for (uint64_t i = uint64_t{blockIdx.x} * kThreads + threadIdx.x; i < words;
       i += uint64_t{gridDim.x} * kThreads) {
    const uint32_t tile = first_tile + static_cast<uint32_t>(i / tile_words);
    const auto word = static_cast<uint32_t>(i % tile_words);
    const uint32_t first = tile * kTileTokens;
    const WordBits bits = IsIntEncoding(p.shape.encoding)
                              ? IntWord(codes, p.shape, word, first, begin, end)
                              : FloatWord(codes, p.shape, word, first, begin, end);
    if (bits.mask == 0) continue;
    auto* to = reinterpret_cast<uint32_t*>(tiles + size_t{tile} * p.shape.tile_bytes()) + word;
    *to = bits.mask == 0xffffffffU ? bits.value : (*to & ~bits.mask) | bits.value;
  }
}

template <IndexSource kSource>
__global__ void AppendKernel(IndexParams p) {
  const uint32_t problem = blockIdx.y;
  const uint32_t begin = p.begin[problem / p.kv_heads];
  const std::byte* data = p.data + problem * p.problem_stride;
  if constexpr (kSource == IndexSource::kKeys) {
    const KeyCodes codes = {data, p.token_stride, p.recipes + problem % p.kv_heads, p.shape};
    AppendWords(p, codes, begin, p.tiles[problem]);
  } else {
    AppendWords(p, SliceCodes{data, p.token_stride, p.shape}, begin, p.tiles[problem]);
  }
}

// The codes of one problem's tokens, from its tiles.
struct TileCodes {
  const std::byte* tiles;
  SliceShape shape;
  __device__ uint32_t At(uint32_t token, uint32_t component) const {
    const std::byte* tile = tiles + size_t{token / kTileTokens} * shape.tile_bytes();
    const uint32_t bits = BitsPerComponent(shape.encoding);
    uint32_t offset = 0;
    uint32_t shift = 0;
    if (IsIntEncoding(shape.encoding)) {
      const LaneToken at = LaneTokenOf(token % kTileTokens);
      const uint32_t per_word = TokensPerWord(shape.encoding);
      const uint32_t word = at.n / per_word * shape.steps() + component / kStepComponents;
      offset = WordOffset(at.g * 4 + component % kStepComponents / 4, word);
      shift = component % 4 * 8 + at.n % per_word * bits;
    } else {
      const uint32_t byte = component * bits / 8;
      offset = (byte / 16 * kTileTokens + token % kTileTokens) * 16 + byte % 16 / 4 * 4;
      shift = byte % 4 * 8;
    }
    const uint32_t word = *reinterpret_cast<const uint32_t*>(tile + offset);
    return word >> shift & ((1U << bits) - 1);
  }
};

__global__ void CopyKernel(IndexParams p, std::byte* slices) {
  const uint32_t problem = blockIdx.y;
  const TileCodes codes = {p.tiles[problem], p.shape};
  const uint32_t begin = p.begin[problem / p.kv_heads];
  const uint32_t slice_bytes = p.shape.slice_bytes();
  const uint64_t bytes = uint64_t{p.tokens} * slice_bytes;
  for (uint64_t i = uint64_t{blockIdx.x} * kThreads + threadIdx.x; i < bytes;
       i += uint64_t{gridDim.x} * kThreads) {
    const auto token = static_cast<uint32_t>(i / slice_bytes);
    const auto byte = static_cast<uint32_t>(i % slice_bytes);
    WriteSliceByte(codes, p.shape, begin + token, byte,
                   slices + problem * p.problem_stride + token * p.token_stride + byte);
  }
}

constexpr uint32_t kMaxBlocks = 4096;

uint32_t BlocksFor(uint64_t items) {
  const uint64_t blocks = (items + kThreads - 1) / kThreads;
  return static_cast<uint32_t>(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

IndexParams ParamsOf(const IndexArgs& args) {
  return {args.recipes->shape(),
          args.recipes->device(),
          static_cast<uint32_t>(args.recipes->kv_heads()),
          args.tokens,
          args.begin,
          args.tiles,
          args.data,
          args.problem_stride,
          args.token_stride};
}

uint32_t ProblemsOf(const IndexArgs& args) {
  return static_cast<uint32_t>(args.sequences * args.recipes->kv_heads());
}

}  // namespace

cudaError_t LaunchEncode(const EncodeArgs& args, cudaStream_t stream) {
  const SliceShape& shape = args.recipes->shape();
  const KeyCodes codes = {args.keys, args.key_stride, args.recipes->device() + args.kv_head, shape};
  const uint64_t bytes = uint64_t{args.tokens} * shape.slice_bytes();
  const auto blocks = static_cast<uint32_t>((bytes + kThreads - 1) / kThreads);
  EncodeKernel<<<blocks, kThreads, 0, stream>>>(codes, static_cast<uint32_t>(args.tokens),
                                                args.slices);
  return cudaGetLastError();
}

cudaError_t LaunchAppend(const IndexArgs& args, IndexSource source, cudaStream_t stream) {
  const IndexParams params = ParamsOf(args);
  const uint64_t tiles = args.tokens / kTileTokens + 2;
  const dim3 grid(BlocksFor(tiles * params.shape.tile_bytes() / 4), ProblemsOf(args));
  if (source == IndexSource::kKeys) {
    AppendKernel<IndexSource::kKeys><<<grid, kThreads, 0, stream>>>(params);
  } else {
    AppendKernel<IndexSource::kSlices><<<grid, kThreads, 0, stream>>>(params);
  }
  return cudaGetLastError();
}

cudaError_t LaunchCopySlices(const IndexArgs& args, std::byte* slices, cudaStream_t stream) {
  const IndexParams params = ParamsOf(args);
  const dim3 grid(BlocksFor(uint64_t{args.tokens} * params.shape.slice_bytes()), ProblemsOf(args));
  CopyKernel<<<grid, kThreads, 0, stream>>>(params, slices);
  return cudaGetLastError();
}

}  // namespace passband::kernels::cuda
