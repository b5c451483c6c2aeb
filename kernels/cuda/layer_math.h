// Layer math on the GPU: what a transformer layer is made of besides products and
// attention, over rows of positions.
//
// Shapes   row-major: [rows][width]; float unless an Elements says what it points at.
// Numbers  float inside; a result in bf16 is rounded to nearest even.
// Stream   everything is enqueued, nothing waits; capturable.
// Threads  safe.
// Errors   those of the launch; shapes are the caller's promise.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "kernels/cuda/device.h"
#include "kernels/types.h"

namespace passband::kernels::cuda {

// Device memory of float or bf16.
struct Elements {
  void* data = nullptr;
  DType dtype = DType::kF32;
};

// out[r] = table[tokens[r]].
absl::Status Embed(Elements table, const uint32_t* tokens, uint32_t rows, uint32_t width,
                   float* out, StreamHandle stream);

// out[r] = in[r] / rms(in[r]) * weight.
absl::Status RmsNorm(const float* in, const float* weight, double eps, uint32_t rows,
                     uint32_t width, Elements out, StreamHandle stream);

// values[r] += bias.
absl::Status AddBias(const float* bias, uint32_t rows, uint32_t width, float* values,
                     StreamHandle stream);

// gate_up [rows][2 * inner]; out[r][i] = silu(gate[r][i]) * up[r][i].
absl::Status SiluTimesUp(const float* gate_up, uint32_t rows, uint32_t inner, Elements out,
                         StreamHandle stream);

absl::Status Convert(const float* in, size_t count, Elements out, StreamHandle stream);

// qkv [rows][(q_heads + 2 kv_heads) * head_dim] -> rotated queries [rows][q_heads]
// [head_dim], and bf16 rows [K | V], K rotated. Activation row r is position
// positions[r]; its row of kv head h goes to
//   out_rows + (item_first[r] * kv_heads + h * item_count[r] + r - item_first[r]) rows,
// so that the rows of an item are [kv_head][count].
struct SplitArgs {
  HeadShape shape;
  uint32_t q_heads = 0;
  uint32_t kv_heads = 0;
  uint32_t rows = 0;
  const float* qkv = nullptr;
  const float* frequencies = nullptr;  // [rotary_dim / 2]
  const uint32_t* positions = nullptr;
  const uint32_t* item_first = nullptr;
  const uint32_t* item_count = nullptr;
  float* queries = nullptr;
  std::byte* out_rows = nullptr;
};
absl::Status SplitAndRotate(const SplitArgs& args, StreamHandle stream);

// The index of the largest of each row's values; the lowest among equals.
absl::Status ArgMax(const float* values, uint32_t rows, uint32_t width, uint32_t* best,
                    StreamHandle stream);

// Normal numbers of the given deviation, the same for the same seed.
absl::Status FillNormal(Elements out, size_t count, uint64_t seed, float deviation,
                        StreamHandle stream);

}  // namespace passband::kernels::cuda
