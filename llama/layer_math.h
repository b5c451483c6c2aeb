// Layer math: the pieces of a transformer layer other than attention, on rows
// of positions.
//
// Shapes   row-major float: [rows][width].
// Threads  safe; pure. With a pool the product is spread over its threads, so
//          not from inside a job of that pool.
// Errors   none: shapes are the caller's promise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "llama/config.h"
#include "llama/weights.h"
#include "llama/worker_pool.h"

namespace passband {

// out[r] = W in[r] + b. `pool` may be null: the calling thread does it all.
void Multiply(const Linear& linear, const float* in, size_t rows, float* out, WorkerPool* pool);

// out[r] = in[r] / rms(in[r]) * weight.
void RmsNorm(const std::vector<float>& weight, double eps, const float* in, size_t rows,
             float* out);

// gate_up: [rows][2 * inner]; out[r][i] = silu(gate[r][i]) * up[r][i].
void SiluTimesUp(const float* gate_up, size_t rows, size_t inner, float* out);

// a += b, element by element.
void AddTo(const float* b, size_t count, float* a);

// The angle per position of each frequency chunk, scaling applied.
std::vector<float> RopeFrequencies(const RopeConfig& rope);

// cos and sin of the angles of one position, [rotary_dim / 2] each.
struct RopeAngles {
  std::vector<float> cos;
  std::vector<float> sin;
};
RopeAngles AnglesAt(const std::vector<float>& frequencies, uint64_t position);

// Rotates `heads` heads of head_dim floats in place, half layout.
void Rotate(const RopeAngles& angles, size_t heads, size_t head_dim, float* values);

}  // namespace passband
