#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <numbers>

#include "kernels/cpu/tip_kernels.h"

namespace passband::kernels {
namespace {

constexpr size_t kMaxComponents = 2 * kMaxChunks;
constexpr float kLog2E = std::numbers::log2e_v<float>;
constexpr int kQueryLevels = 127;
// Of int2: components of a 16 bit word, and what the magnitudes of their levels come
// to before and, at most, after rounding.
constexpr size_t kWordComponents = 8;
constexpr float kWordSum = 81.0F;
constexpr int kWordLevels = 85;
// Of steps in log2, the least that is made a multiple of 2^-23 (levels 3 % coarser at
// most).
constexpr float kLeastFixedStep = 0x1p-18F;
static_assert(kWordSum + 0.5 * kWordComponents <= kWordLevels && 3 * kWordLevels <= UINT8_MAX);

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
    case SliceEncoding::kInt4:
      return {4, 2, 15};
    default:
      return {2, 1, 15};  // int8, as two passes of 4 bits
  }
}

// One head's query times what decoding multiplies by. NaN counts as 0.
void Products(const SliceSpec& spec, const float* query, float scale, float* products) {
  const size_t components = static_cast<size_t>(spec.components());
  GatherComponents(spec, query, products);
  const float unit = StepOf(spec.encoding);
  for (size_t j = 0; j < components; ++j) {
    const float product = products[j] * scale * (spec.deviation[j] * unit);
    products[j] = product == product ? product : 0.0F;
  }
}

// The largest magnitude among products, or of int2 the largest sum of magnitudes
// over a word's.
float Largest(SliceEncoding encoding, const float* products, size_t components) {
  float largest = 0;
  if (encoding != SliceEncoding::kInt2) {
    for (size_t j = 0; j < components; ++j) largest = std::max(largest, std::fabs(products[j]));
    return largest;
  }
  for (size_t begin = 0; begin < components; begin += kWordComponents) {
    float sum = 0;
    const size_t end = std::min(components, begin + kWordComponents);
    for (size_t j = begin; j < end; ++j) sum += std::fabs(products[j]);
    largest = std::max(largest, sum);
  }
  return largest;
}

// The step between levels that are at least `least` apart, in log2: a multiple of
// 2^-23, unless it is so small that this would make the levels much coarser.
float Log2Step(float least) {
  const float step = least * kLog2E;
  return step >= kLeastFixedStep && step < 1 ? std::ceil(step * 0x1p23F) * 0x1p-23F : step;
}

// Rounds one head's query to integer levels; returns the step between them, in log2,
// 0 when all levels are zero.
float RoundQuery(const SliceSpec& spec, const float* query, float scale, int* levels) {
  const size_t components = static_cast<size_t>(spec.components());
  float products[kMaxComponents];
  Products(spec, query, scale, products);
  const float most = spec.encoding == SliceEncoding::kInt2 ? kWordSum : float{kQueryLevels};
  const float log2_step = Log2Step(Largest(spec.encoding, products, components) / most);
  const float step = log2_step / kLog2E;
  if (!(step >= FLT_MIN && log2_step <= FLT_MAX)) {
    std::fill_n(levels, components, 0);
    return 0.0F;
  }
  for (size_t j = 0; j < components; ++j) {
    levels[j] = static_cast<int>(std::nearbyint(products[j] / step));
  }
  return log2_step;
}

// How one head's logits of `components` components become weights.
LogitRange RangeOf(const SliceSpec& spec, const int* levels, float log2_step) {
  const int top = LevelsOf(spec.encoding) - 1;
  const float bound = static_cast<float>(top * kQueryLevels * std::max(spec.components(), 1));
  int span = 0;
  for (int j = 0; j < spec.components(); ++j) span += std::abs(levels[j]);
  LogitRange range = {std::min(log2_step, kMaxLog2 / bound), static_cast<float>(span * top)};
  if (IsNarrow(range) && range.log2_scale >= kLeastFixedStep && range.log2_scale < 1) {
    range.fixed_scale = static_cast<uint32_t>(range.log2_scale * 0x1p23F);
  }
  return range;
}

// What two components add, for every pair of their codes, less the least of it. All of
// it fits in bytes, so four entries at a time can be computed as one number.
void FillTable(int first, int second, LookupTable& table) {
  const int least = 3 * (std::min(first, 0) + std::min(second, 0));
  const uint32_t row =
      static_cast<uint32_t>(first) * 0x03020100U - static_cast<uint32_t>(least) * 0x01010101U;
  const uint32_t down = static_cast<uint32_t>(second) * 0x01010101U;
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t entries = row + i * down;
    for (uint32_t k = 0; k < 4; ++k)
      table.entry[4 * i + k] = static_cast<uint8_t>(entries >> 8 * k);
  }
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

size_t LookupTables(const SliceSpec& spec, size_t heads) {
  return (spec.slice_bytes() + 1) / 2 * heads * kTablesPerWord;
}

LookupQuery MakeLookupQuery(const SliceSpec& spec, const float* queries, size_t heads, float scale,
                            LookupTable* tables) {
  LookupQuery result;
  result.tables = tables;
  result.heads = heads;
  for (size_t h = 0; h < heads; ++h) {
    int levels[kMaxComponents + kWordComponents] = {};
    const float step = RoundQuery(spec, queries + h * spec.shape.head_dim, scale, levels);
    result.range[h] = RangeOf(spec, levels, step);
    for (size_t w = 0; w < (spec.slice_bytes() + 1) / 2; ++w) {
      LookupTable* of_word = tables + (w * heads + h) * kTablesPerWord;
      for (size_t k = 0; k < kTablesPerWord; ++k) {
        const int* pair = levels + w * kWordComponents + 2 * k;
        FillTable(pair[0], pair[1], of_word[k]);
      }
    }
  }
  return result;
}

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
  for (size_t h = 0; h < heads; ++h) {
    const float step = RoundQuery(spec, queries + h * spec.shape.head_dim, scale, levels[h]);
    result.range[h] = RangeOf(spec, levels[h], step);
  }
  for (size_t w = 0; w < words; ++w) {
    for (size_t k = 0; k < unpacking.splits; ++k) {
      for (size_t h = 0; h < heads; ++h) {
        const int* pair = &levels[h][w * unpacking.per_word + k];
        const auto low = static_cast<uint8_t>(pair[0]);
        const auto high = static_cast<uint8_t>(pair[unpacking.splits]);
        const auto both = static_cast<uint16_t>(low | high << 8);
        std::fill(std::begin(vectors->lane), std::end(vectors->lane), both);
        ++vectors;
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
