#include "kernels/tip.h"

#include <algorithm>
#include <bit>
#include <cassert>

#include "kernels/cpu/tip_kernels.h"

namespace passband::kernels {
namespace {

size_t BlocksOf(size_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

// The query heads [first, first + heads) of one call, ready for the loops.
class PassQuery {
 public:
  PassQuery(const SliceIndex& index, const float* queries, size_t heads, float scale,
            TipScratch& scratch)
      : index_(index), is_int_(IsIntEncoding(index.spec().encoding)) {
    const SliceSpec& spec = index.spec();
    if (is_int_) {
      scratch.query.resize(std::max(scratch.query.size(), IntQueryWords(spec, heads)));
      int_query_ = MakeIntQuery(spec, queries, heads, scale, scratch.query.data());
    } else {
      const size_t floats = static_cast<size_t>(spec.components()) * heads;
      const size_t words = (floats * sizeof(float) + sizeof(TileWord) - 1) / sizeof(TileWord);
      scratch.query.resize(std::max(scratch.query.size(), words));
      auto* values = reinterpret_cast<float*>(scratch.query.data());
      float_query_ = MakeFloatQuery(spec, queries, heads, scale, values);
    }
  }

  void Logits(size_t block, size_t tile_count, float* logits) const {
    const SliceSpec& spec = index_.spec();
    const size_t words = index_.words_per_tile();
    const TileWord* tiles = index_.tiles() + block * kBlockTiles * words;
    if (is_int_) {
      IntLogits(spec.encoding, tiles, words, tile_count, int_query_, logits);
    } else {
      FloatLogits(spec.encoding, tiles, words, static_cast<size_t>(spec.components()), tile_count,
                  float_query_, logits);
    }
  }

  LogitRange range(size_t head) const { return is_int_ ? int_query_.range[head] : LogitRange(); }

 private:
  const SliceIndex& index_;
  bool is_int_;
  IntQuery int_query_;
  FloatQuery float_query_;
};

// 2^exponent for an integer exponent <= 0; 0 below the normal floats.
float PowerOfTwo(float exponent) {
  const int biased = static_cast<int>(exponent) + 127;
  return std::bit_cast<float>(biased > 0 ? static_cast<uint32_t>(biased) << 23 : 0U);
}

// Turns the blocks' exponents and sums of one head, [block][group], into the
// factors that normalise its softmax, 1 / group of it.
void Normalise(const BlockSum* sums, size_t blocks, size_t group, float* factors) {
  float top = sums[0].exponent;
  for (size_t b = 1; b < blocks; ++b) top = std::max(top, sums[b * group].exponent);
  double total = 0;
  for (size_t b = 0; b < blocks; ++b) {
    total += double{PowerOfTwo(sums[b * group].exponent - top)} * sums[b * group].sum;
  }
  const auto share = static_cast<float>(1.0 / (total * static_cast<double>(group)));
  for (size_t b = 0; b < blocks; ++b) {
    factors[b * group] = PowerOfTwo(sums[b * group].exponent - top) * share;
  }
}

}  // namespace

void TipScores(const SliceIndex& index, const float* queries, int group, float scale,
               TipScratch& scratch, float* scores) {
  assert(group > 0 && group <= kMaxGroup);
  const size_t tokens = index.tokens();
  if (tokens == 0) return;
  const size_t heads = static_cast<size_t>(group);
  const size_t blocks = BlocksOf(tokens);
  const auto tokens_of = [&](size_t b) {
    return std::min(kBlockTokens, tokens - b * kBlockTokens);
  };
  const auto grow = [](auto& buffer, size_t size) {
    if (buffer.size() < size) buffer.resize(size);
  };
  grow(scratch.logits, kHeadsPerPass * kBlockTokens);
  grow(scratch.weights, blocks * heads * kBlockTokens);
  grow(scratch.sums, blocks * heads);
  grow(scratch.factors, blocks * heads);

  for (size_t first = 0; first < heads; first += kHeadsPerPass) {
    const size_t pass_heads = std::min(kHeadsPerPass, heads - first);
    const PassQuery query(index, queries + first * index.spec().shape.head_dim, pass_heads, scale,
                          scratch);
    for (size_t b = 0; b < blocks; ++b) {
      const size_t count = tokens_of(b);
      query.Logits(b, (count + kTileTokens - 1) / kTileTokens, scratch.logits.data());
      for (size_t h = 0; h < pass_heads; ++h) {
        float* weights = scratch.weights.data() + (b * heads + first + h) * kBlockTokens;
        scratch.sums[b * heads + first + h] =
            BlockWeights(scratch.logits.data() + h * kBlockTokens, count, query.range(h), weights);
      }
    }
  }
  for (size_t h = 0; h < heads; ++h) {
    Normalise(scratch.sums.data() + h, blocks, heads, scratch.factors.data() + h);
  }
  for (size_t b = 0; b < blocks; ++b) {
    CombineHeads(scratch.weights.data() + b * heads * kBlockTokens,
                 scratch.factors.data() + b * heads, heads, tokens_of(b),
                 scores + b * kBlockTokens);
  }
}

}  // namespace passband::kernels
