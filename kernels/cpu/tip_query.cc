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
  // Components come in pairs; two maxima halve the wait for the last one.
  float most[2] = {};
  for (size_t j = 0; j < components; j += 2) {
    for (size_t k = 0; k < 2; ++k) {
      product[j + k] = product[j + k] * scale * (spec.deviation[j + k] * unit);
      most[k] = std::max(most[k], std::fabs(product[j + k]));
    }
  }
  const float largest = std::max(most[0], most[1]);
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

// Makes `segment` the words [begin, end), unless some head's sums over them need
// more than 16 bits: then returns false.
bool FitSegment(const int (*levels)[kMaxComponents], size_t begin, size_t end,
                const Unpacking& unpacking, size_t heads, IntSegment& segment) {
  for (size_t h = 0; h < heads; ++h) {
    int span = 0;
    int sum = 0;
    for (size_t j = begin * unpacking.per_word; j < end * unpacking.per_word; ++j) {
      span += std::abs(levels[h][j]);
      sum += levels[h][j];
    }
    if (span * unpacking.limit > UINT16_MAX) return false;
    // (span - sum) / 2: what the negative levels come to.
    segment.offset[h] = static_cast<uint16_t>((span - sum) / 2 * unpacking.limit);
  }
  segment.word_begin = begin;
  segment.word_end = end;
  return true;
}

// Cuts the words into few segments; one word always fits.
void CutSegments(const int (*levels)[kMaxComponents], size_t words, const Unpacking& unpacking,
                 IntQuery& query) {
  for (size_t begin = 0; begin < words; ++query.segments) {
    IntSegment& segment = query.segment[query.segments];
    size_t end = words;
    while (!FitSegment(levels, begin, end, unpacking, query.heads, segment)) {
      end = begin + (end - begin + 1) / 2;
    }
    begin = end;
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
