// Random contents for the benchmark's buffers, written on the GPU.
//
// Stream  enqueued; the result is that of the launch.
#pragma once

#include <cstddef>
#include <cstdint>

struct CUstream_st;

namespace passband::bench {

// Random bits.
int FillRandomBits(void* to, size_t bytes, uint32_t seed, CUstream_st* stream);
// bf16 numbers in [-1, 1).
int FillRandomBf16(void* to, size_t bytes, uint32_t seed, CUstream_st* stream);

}  // namespace passband::bench
