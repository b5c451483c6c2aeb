#include "kernels/slice.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "kernels/cpu/float_bits.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/slice.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/simd-inl.h"

#ifndef PASSBAND_KERNELS_CPU_SLICE_ONCE_
#define PASSBAND_KERNELS_CPU_SLICE_ONCE_
namespace passband::kernels {

inline constexpr size_t kMaxComponents = 2 * kMaxChunks;

// A SliceSpec flattened for the loops: where each component lies in a key, and
// the recipe padded so that whole vectors can be read.
struct EncodeRecipe {
  size_t components = 0;
  size_t slice_bytes = 0;
  DType dtype = DType::kBf16;
  SliceEncoding encoding = SliceEncoding::kInt2;
  float step = 1.0F;
  float levels = 4.0F;
  uint16_t dims[kMaxComponents] = {};
  alignas(32) float mean[kMaxComponents] = {};
  alignas(32) float deviation[kMaxComponents] = {};
};

}  // namespace passband::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace passband::kernels::HWY_NAMESPACE {

struct alignas(32) Components {
  uint16_t raw[kMaxComponents];
  float value[kMaxComponents];
  uint8_t code[kMaxComponents];
};

// Gathers the components of one key and widens them. 16 bit keys are gathered
// raw and widened by vectors; the padding widens to harmless zeros.
void LoadComponents(const EncodeRecipe& recipe, const std::byte* key, Components& c) {
  const F32 d;
  const U32 du;
  const size_t lanes = hn::Lanes(d);
  if (recipe.dtype == DType::kF32) {
    for (size_t j = 0; j < recipe.components; ++j) {
      std::memcpy(&c.value[j], key + 4 * size_t{recipe.dims[j]}, 4);
    }
    return;
  }
  for (size_t j = 0; j < recipe.components; ++j) {
    std::memcpy(&c.raw[j], key + 2 * size_t{recipe.dims[j]}, 2);
  }
  for (size_t j = 0; j < recipe.components; j += lanes) {
    const auto bits = hn::PromoteTo(du, hn::Load(HalfU16(), c.raw + j));
    const VF wide =
        recipe.dtype == DType::kBf16 ? hn::BitCast(d, hn::ShiftLeft<16>(bits)) : WidenF16(bits);
    hn::Store(wide, d, c.value + j);
  }
}

// types.h's formula, operation by operation.
void QuantiseComponents(const EncodeRecipe& recipe, Components& c) {
  const F32 d;
  const I32 di;
  const hn::Rebind<uint8_t, F32> du8;
  const size_t lanes = hn::Lanes(d);
  const VF step = hn::Set(d, recipe.step);
  const VF half = hn::Set(d, recipe.levels / 2);
  const VF top = hn::Set(d, recipe.levels - 1);
  for (size_t j = 0; j < recipe.components; j += lanes) {
    const VF value = hn::Load(d, c.value + j);
    const VF z =
        hn::Div(hn::Sub(value, hn::Load(d, recipe.mean + j)), hn::Load(d, recipe.deviation + j));
    const VF level = hn::Floor(hn::Add(hn::Div(z, step), half));
    const VF number = hn::IfThenElseZero(hn::Eq(level, level), level);
    const VF code = hn::Min(hn::Max(number, hn::Zero(d)), top);
    hn::Store(hn::DemoteTo(du8, hn::ConvertTo(di, code)), du8, c.code + j);
  }
  std::memset(c.code + recipe.components, 0, (8 - recipe.components % 8) % 8);
}

// Eight 2 bit codes, one a byte, to 16 bits; eight 4 bit ones to 32.
HWY_INLINE uint64_t PackTwoBit(uint64_t x) {
  x = (x | x >> 6) & 0x000f000f000f000fULL;
  x = (x | x >> 12) & 0x000000ff000000ffULL;
  return (x | x >> 24) & 0xffffULL;
}
HWY_INLINE uint64_t PackFourBit(uint64_t x) {
  x = (x | x >> 4) & 0x00ff00ff00ff00ffULL;
  x = (x | x >> 8) & 0x0000ffff0000ffffULL;
  return (x | x >> 16) & 0xffffffffULL;
}

void PackCodes(const EncodeRecipe& recipe, const Components& c, std::byte* slice) {
  if (recipe.encoding == SliceEncoding::kInt8) {
    std::memcpy(slice, c.code, recipe.components);
    return;
  }
  const bool two = recipe.encoding == SliceEncoding::kInt2;
  const size_t bytes_per_eight = two ? 2 : 4;
  for (size_t j = 0, at = 0; j < recipe.components; j += 8, at += bytes_per_eight) {
    uint64_t codes = 0;
    std::memcpy(&codes, c.code + j, 8);
    const uint64_t packed = two ? PackTwoBit(codes) : PackFourBit(codes);
    std::memcpy(slice + at, &packed, std::min(bytes_per_eight, recipe.slice_bytes - at));
  }
}

void EncodeOne(const EncodeRecipe& recipe, const std::byte* key, Components& c, std::byte* slice) {
  LoadComponents(recipe, key, c);
  switch (recipe.encoding) {
    case SliceEncoding::kBf16:
      for (size_t j = 0; j < recipe.components; ++j) c.raw[j] = FloatToBf16(c.value[j]);
      std::memcpy(slice, c.raw, recipe.slice_bytes);
      return;
    case SliceEncoding::kFp8:
      for (size_t j = 0; j < recipe.components; ++j) c.code[j] = FloatToFp8(c.value[j]);
      std::memcpy(slice, c.code, recipe.slice_bytes);
      return;
    case SliceEncoding::kInt8:
    case SliceEncoding::kInt4:
    case SliceEncoding::kInt2:
      QuantiseComponents(recipe, c);
      PackCodes(recipe, c, slice);
  }
}

void EncodeAll(const EncodeRecipe& recipe, const std::byte* keys, size_t stride_bytes,
               size_t tokens, std::byte* slices) {
  Components c = {};
  for (size_t i = 0; i < tokens; ++i) {
    EncodeOne(recipe, keys + i * stride_bytes, c, slices + i * recipe.slice_bytes);
  }
}

}  // namespace passband::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace passband::kernels {
namespace {

HWY_EXPORT(EncodeAll);

EncodeRecipe MakeRecipe(const SliceSpec& spec) {
  EncodeRecipe recipe;
  recipe.components = static_cast<size_t>(spec.components());
  recipe.slice_bytes = spec.slice_bytes();
  recipe.dtype = spec.shape.dtype;
  recipe.encoding = spec.encoding;
  assert(recipe.components <= kMaxComponents);
  const size_t chunks = spec.chunks.size();
  for (size_t i = 0; i < chunks; ++i) {
    const ChunkDims dims = DimsOfChunk(spec.shape, spec.chunks[i]);
    recipe.dims[i] = static_cast<uint16_t>(dims.first);
    recipe.dims[chunks + i] = static_cast<uint16_t>(dims.second);
  }
  if (!IsIntEncoding(spec.encoding)) return recipe;
  assert(spec.mean.size() == recipe.components && spec.deviation.size() == recipe.components);
  recipe.step = StepOf(spec.encoding);
  recipe.levels = static_cast<float>(LevelsOf(spec.encoding));
  std::fill(std::begin(recipe.deviation), std::end(recipe.deviation), 1.0F);
  std::copy(spec.mean.begin(), spec.mean.end(), recipe.mean);
  std::copy(spec.deviation.begin(), spec.deviation.end(), recipe.deviation);
  return recipe;
}

int CodeAt(SliceEncoding encoding, const std::byte* slice, size_t component) {
  const size_t bits = static_cast<size_t>(BitsPerComponent(encoding));
  const size_t at = component * bits;
  return (std::to_integer<int>(slice[at / 8]) >> (at % 8)) & (LevelsOf(encoding) - 1);
}

}  // namespace

void EncodeSlices(const SliceSpec& spec, const std::byte* keys, size_t stride_bytes, size_t tokens,
                  std::byte* slices) {
  if (tokens == 0) return;
  const EncodeRecipe recipe = MakeRecipe(spec);
  HWY_DYNAMIC_DISPATCH(EncodeAll)(recipe, keys, stride_bytes, tokens, slices);
}

void DecodeSlice(const SliceSpec& spec, const std::byte* slice, float* components) {
  const size_t count = static_cast<size_t>(spec.components());
  for (size_t j = 0; j < count; ++j) {
    if (spec.encoding == SliceEncoding::kBf16) {
      uint16_t bits = 0;
      std::memcpy(&bits, slice + 2 * j, 2);
      components[j] = Bf16ToFloat(bits);
    } else if (spec.encoding == SliceEncoding::kFp8) {
      components[j] = Fp8ToFloat(std::to_integer<uint8_t>(slice[j]));
    } else {
      const float centred = static_cast<float>(CodeAt(spec.encoding, slice, j)) -
                            static_cast<float>(LevelsOf(spec.encoding) - 1) / 2;
      components[j] = spec.mean[j] + spec.deviation[j] * StepOf(spec.encoding) * centred;
    }
  }
}

}  // namespace passband::kernels
#endif  // HWY_ONCE
