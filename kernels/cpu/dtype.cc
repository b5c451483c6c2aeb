#include "kernels/dtype.h"

#include <cstring>

#include "kernels/cpu/float_bits.h"

namespace passband::kernels {
namespace {

template <uint16_t (*Narrow)(float)>
void NarrowAll(const float* in, size_t count, std::byte* out) {
  for (size_t i = 0; i < count; ++i) {
    const uint16_t bits = Narrow(in[i]);
    std::memcpy(out + 2 * i, &bits, 2);
  }
}

template <float (*Widen)(uint16_t)>
void WidenAll(const std::byte* in, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, in + 2 * i, 2);
    out[i] = Widen(bits);
  }
}

}  // namespace

void FloatToDType(const float* in, size_t count, DType dtype, std::byte* out) {
  switch (dtype) {
    case DType::kBf16:
      return NarrowAll<FloatToBf16>(in, count, out);
    case DType::kF16:
      return NarrowAll<FloatToF16>(in, count, out);
    case DType::kF32:
      if (count > 0) std::memcpy(out, in, count * sizeof(float));
  }
}

void DTypeToFloat(const std::byte* in, size_t count, DType dtype, float* out) {
  switch (dtype) {
    case DType::kBf16:
      return WidenAll<Bf16ToFloat>(in, count, out);
    case DType::kF16:
      return WidenAll<F16ToFloat>(in, count, out);
    case DType::kF32:
      if (count > 0) std::memcpy(out, in, count * sizeof(float));
  }
}

}  // namespace passband::kernels
