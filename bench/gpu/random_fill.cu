#include <cuda_runtime.h>

#include "bench/gpu/random_fill.h"

namespace passband::bench {
namespace {

__device__ uint32_t Mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
  return static_cast<uint32_t>(x >> 32);
}

template <bool kBf16>
__global__ void Fill(uint32_t* to, size_t words, uint64_t seed) {
  for (size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < words;
       i += size_t{gridDim.x} * blockDim.x) {
    const uint32_t bits = Mix((i + 1) * 0x9e3779b97f4a7c15ULL + seed * 0xd1342543de82ef95ULL);
    if constexpr (!kBf16) {
      to[i] = bits;
      continue;
    }
    const float low = static_cast<float>(static_cast<int>(bits << 16)) * 0x1p-31F;
    const float high = static_cast<float>(static_cast<int>(bits)) * 0x1p-31F;
    to[i] = __float_as_uint(low) >> 16 | (__float_as_uint(high) & 0xffff0000U);
  }
}

}  // namespace

int FillRandomBits(void* to, size_t bytes, uint32_t seed, CUstream_st* stream) {
  Fill<false><<<2048, 256, 0, stream>>>(static_cast<uint32_t*>(to), bytes / 4, seed);
  return cudaGetLastError();
}

int FillRandomBf16(void* to, size_t bytes, uint32_t seed, CUstream_st* stream) {
  Fill<true><<<2048, 256, 0, stream>>>(static_cast<uint32_t*>(to), bytes / 4, seed);
  return cudaGetLastError();
}

}  // namespace passband::bench
