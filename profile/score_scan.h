// Score scans: the inner loops of calibration, over one value a token.
//
// Contract  pure, vectorised for the machine at run time; arrays of `count`
//           floats that do not overlap unless they are the same.
#pragma once

#include <cstddef>

namespace passband {

// out[t] = base[t] + a * x[t] + b * y[t]. Returns the largest out.
float AddScaledPair(const float* base, float a, const float* x, float b, const float* y,
                    size_t count, float* out);

// values[t] = exp(values[t] - largest), relative error below 1e-4. Returns the sum.
float ExponentialSum(float largest, size_t count, float* values);

// sum[t] += weight * values[t].
void AddScaled(const float* values, float weight, size_t count, float* sum);

}  // namespace passband
