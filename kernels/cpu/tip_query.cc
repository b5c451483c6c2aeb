#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdlib>
#include <numbers>

#include "kernels/cpu/tip_kernels.h"

namespace passband::kernels {
namespace {

constexpr size_t kMaxComponents = 2 * kMaxChunks;
constexpr float kLog2E = std::numbers::log2e_v<float>;
constexpr int kQueryLevels = 127;
constexpr float kMaxLog2 = 0x1p20F;  // keeps rounding by kRoundMagic exact

// The components of one head's query, in component order.
void GatherComponents(const SliceSpec& spec, const float* query, float* components) {
  const size_t chunks = spec.chunks.size();
  for (size_t i = 0; i < chunks; ++i) {
    const ChunkDims dims = DimsOfChunk(spec.shape, spec.chunks[i]);
    components[i] = query[dims.first];
    components[chunks + i] = query[dims.second];
  }
}

// How one word's codes come apart: `splits` query vectors a word, the byte pair
// of split k holding components word * per_word + k and + k + splits; codes of at
// most `limit` in one pass over the word.
struct Unpacking {
  size_t per_word = 0;
  size_t splits = 0;
  int limit = 0;
};

Unpacking UnpackingOf(SliceEncoding encoding) {
  switch (encoding) {
    case SliceEncoding::kInt2:
      return {8, 4, 3};
    case SliceEncoding::kInt4:
      return {4, 2, 15};
    default:
      return {2, 1, 15};  // int8, as two passes of 4 bits
  }
}

// One head's query times what decoding multiplies by, rounded to int8; returns
// the step between levels, 0 when all levels are zero.
float RoundQuery(const SliceSpec& spec, const float* query, float scale, int* levels) {
  const size_t components = static_cast<size_t>(spec.components());
  float product[kMaxComponents];
  GatherComponents(spec, query, product);
  const float unit = StepOf(spec.encoding);
  float largest = 0;
  for (size_t j = 0; j < components; ++j) {
    product[j] = product[j] * scale * (spec.deviation[j] * unit);
    largest = std::max(largest, std::fabs(product[j]));
  }
  const float step = largest / kQueryLevels;
  if (!(step >= FLT_MIN && step <= FLT_MAX)) {
    std::fill_n(levels, components, 0);
    return 0.0F;
  }
  for (size_t j = 0; j < components; ++j) {
    const float number = product[j] == product[j] ? product[j] : 0.0F;
    levels[j] = static_cast<int>(std::nearbyint(number / step));
  }
  return step;
}

void AddWord(const int (*levels)[kMaxComponents], size_t word, const Unpacking& unpacking,
             size_t heads, uint32_t* span, uint32_t* offset) {
  for (size_t h = 0; h < heads; ++h) {
    for (size_t j = word * unpacking.per_word; j < (word + 1) * unpacking.per_word; ++j) {
      span[h] += static_cast<uint32_t>(unpacking.limit * std::abs(levels[h][j]));
      offset[h] += static_cast<uint32_t>(unpacking.limit * std::max(-levels[h][j], 0));
    }
  }
}

// Cuts the words into as few segments as keep every head's sums in 16 bits.
void CutSegments(const int (*levels)[kMaxComponents], size_t words, const Unpacking& unpacking,
                 IntQuery& query) {
  for (size_t word = 0; word < words; ++query.segments) {
    IntSegment& segment = query.segment[query.segments];
    segment.word_begin = word;
    uint32_t span[kHeadsPerPass] = {};
    uint32_t offset[kHeadsPerPass] = {};
    for (; word < words; ++word) {
      AddWord(levels, word, unpacking, query.heads, span, offset);
      if (*std::max_element(span, span + query.heads) > UINT16_MAX) break;
      for (size_t h = 0; h < query.heads; ++h) segment.offset[h] = static_cast<uint16_t>(offset[h]);
    }
    segment.word_end = word;
  }
}

}  // namespace

size_t IntQueryWords(const SliceSpec& spec, size_t heads) {
  return (spec.slice_bytes() + 1) / 2 * UnpackingOf(spec.encoding).splits * heads;
}

IntQuery MakeIntQuery(const SliceSpec& spec, const float* queries, size_t heads, float scale,
                      TileWord* vectors) {
  const Unpacking unpacking = UnpackingOf(spec.encoding);
  const size_t words = (spec.slice_bytes() + 1) / 2;
  int levels[kHeadsPerPass][kMaxComponents] = {};
  IntQuery result;
  result.query = vectors;
  result.heads = heads;
  const auto top = static_cast<float>((LevelsOf(spec.encoding) - 1) * kQueryLevels);
  const float most = kMaxLog2 / (top * static_cast<float>(std::max(spec.components(), 1)));
  for (size_t h = 0; h < heads; ++h) {
    const float step = RoundQuery(spec, queries + h * spec.shape.head_dim, scale, levels[h]);
    result.range[h].log2_scale = std::min(step * kLog2E, most);
    int span = 0;
    for (const int level : levels[h]) span += std::abs(level);
    result.range[h].most = static_cast<float>(span * (LevelsOf(spec.encoding) - 1));
  }
  for (size_t w = 0; w < words; ++w) {
    for (size_t k = 0; k < unpacking.splits; ++k) {
      for (size_t h = 0; h < heads; ++h) {
        const int* pair = &levels[h][w * unpacking.per_word + k];
        const auto low = static_cast<uint8_t>(pair[0]);
        const auto high = static_cast<uint8_t>(pair[unpacking.splits]);
        const auto both = static_cast<uint16_t>(low | high << 8);
        std::fill_n((vectors++)->lane, kTileTokens, both);
      }
    }
  }
  CutSegments(levels, words, unpacking, result);
  return result;
}

FloatQuery MakeFloatQuery(const SliceSpec& spec, const float* queries, size_t heads, float scale,
                          float* values) {
  const size_t components = static_cast<size_t>(spec.components());
  float gathered[kMaxComponents];
  for (size_t h = 0; h < heads; ++h) {
    GatherComponents(spec, queries + h * spec.shape.head_dim, gathered);
    for (size_t j = 0; j < components; ++j) values[j * heads + h] = gathered[j] * scale * kLog2E;
  }
  return {values, heads};
}

}  // namespace passband::kernels
