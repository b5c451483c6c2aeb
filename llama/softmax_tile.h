// SoftmaxTile: one step of a running softmax over a tile of scores.
//
// Threads  safe; pure. SIMD, chosen at run time.
// Errors   none.
#pragma once

#include <cstddef>

namespace passband {

// What a query's softmax knows so far: the largest score, and the sum of
// exp(score - largest).
struct RunningSoftmax {
  float largest = -3.0e38F;
  float sum = 0.0F;
};

// Turns scores[0, valid) into exp(scale * score - largest), with `largest`
// raised if need be, zeroes scores[valid, width), and adds to the sum. Returns
// the factor by which what was accumulated before must be multiplied.
float SoftmaxStep(float* scores, size_t valid, size_t width, float scale, RunningSoftmax& state);

// x *= factor.
void ScaleRow(float* x, size_t count, float factor);

}  // namespace passband
