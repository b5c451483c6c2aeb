// Conversions between float and the stored element types.
//
// Contract  round to nearest even; NaN stays NaN. Arrays must not overlap.
#pragma once

#include <cstddef>

#include "kernels/types.h"

namespace passband::kernels {

void FloatToDType(const float* in, size_t count, DType dtype, std::byte* out);
void DTypeToFloat(const std::byte* in, size_t count, DType dtype, float* out);

}  // namespace passband::kernels
