#include "kernels/tip.h"

#include <algorithm>
#include <bit>
#include <cassert>

#include "kernels/cpu/tip_kernels.h"

namespace passband::kernels {
namespace {

// The query heads [first, first + heads) of one call, ready for the loops.
class PassQuery {
 public:
  PassQuery(const SliceIndex& index, const float* queries, size_t heads, float scale,
            TipScratch& scratch)
      : index_(index), scratch_(scratch) {
    const SliceSpec& spec = index.spec();
    if (spec.encoding == SliceEncoding::kInt2) {
      auto* tables = Room<LookupTable>(LookupTables(spec, heads));
      lookup_query_ = MakeLookupQuery(spec, queries, heads, scale, tables);
    } else if (IsIntEncoding(spec.encoding)) {
      auto* vectors = Room<TileWord>(IntQueryWords(spec, heads));
      int_query_ = MakeIntQuery(spec, queries, heads, scale, vectors);
    } else {
      auto* values = Room<float>(static_cast<size_t>(spec.components()) * heads);
      float_query_ = MakeFloatQuery(spec, queries, heads, scale, values);
    }
  }

  // Scores `count` tokens of a run for all heads, into the scratch.
  void Score(size_t run, size_t count) const {
    const SliceSpec& spec = index_.spec();
    const size_t next = run + 1 < index_.runs() ? run + 1 : run;
    const size_t tile_tokens = TileTokens(spec.encoding);
    const RunTiles tiles = {index_.run(run), index_.run(next), index_.words_per_tile(),
                            (count + tile_tokens - 1) / tile_tokens};
    if (spec.encoding == SliceEncoding::kInt2) {
      LookupProducts(tiles, lookup_query_, scratch_.products.data());
    } else if (IsIntEncoding(spec.encoding)) {
      IntLogits(spec.encoding, tiles, int_query_, scratch_.logits.data());
    } else {
      FloatLogits(spec.encoding, tiles, static_cast<size_t>(spec.components()), float_query_,
                  scratch_.logits.data());
    }
  }

  // Weighs what Score found of head `head`.
  RunSum Weigh(size_t head, size_t count, float* weights) const {
    float* logits = scratch_.logits.data() + head * kRunTokens;
    if (index_.spec().encoding == SliceEncoding::kInt2) {
      const uint16_t* products = scratch_.products.data() + head * kRunTokens;
      const LogitRange& range = lookup_query_.range[head];
      if (IsNarrow(range)) return ProductWeights(products, count, range, weights);
      ProductLogits(products, count, logits);
      return RunWeights(logits, count, range, weights);
    }
    return RunWeights(logits, count, int_query_.range[head], weights);
  }

 private:
  template <class T>
  T* Room(size_t count) {
    const size_t words = (count * sizeof(T) + sizeof(TileWord) - 1) / sizeof(TileWord);
    if (scratch_.query.size() < words) scratch_.query.resize(words);
    return reinterpret_cast<T*>(scratch_.query.data());
  }

  const SliceIndex& index_;
  TipScratch& scratch_;
  LookupQuery lookup_query_;
  IntQuery int_query_;
  FloatQuery float_query_;
};

// 2^exponent for an integer exponent <= 0; 0 below the normal floats.
float PowerOfTwo(float exponent) {
  const int biased = static_cast<int>(exponent) + 127;
  return std::bit_cast<float>(biased > 0 ? static_cast<uint32_t>(biased) << 23 : 0U);
}

// Turns the runs' exponents and sums of one head, [run][group], into the
// factors that normalise its softmax, 1 / group of it.
void Normalise(const RunSum* sums, size_t runs, size_t group, float* factors) {
  float top = sums[0].exponent;
  for (size_t r = 1; r < runs; ++r) top = std::max(top, sums[r * group].exponent);
  double total = 0;
  for (size_t r = 0; r < runs; ++r) {
    total += double{PowerOfTwo(sums[r * group].exponent - top)} * sums[r * group].sum;
  }
  const auto share = static_cast<float>(1.0 / (total * static_cast<double>(group)));
  for (size_t r = 0; r < runs; ++r) {
    factors[r * group] = PowerOfTwo(sums[r * group].exponent - top) * share;
  }
}

}  // namespace

void TipScores(const SliceIndex& index, const float* queries, int group, float scale,
               TipScratch& scratch, float* scores) {
  assert(group > 0 && group <= kMaxGroup);
  const size_t tokens = index.tokens();
  if (tokens == 0) return;
  const size_t heads = static_cast<size_t>(group);
  const size_t runs = index.runs();
  const auto tokens_of = [&](size_t r) { return std::min(kRunTokens, tokens - r * kRunTokens); };
  const auto grow = [](auto& buffer, size_t size) {
    if (buffer.size() < size) buffer.resize(size);
  };
  grow(scratch.products, kHeadsPerPass * kRunTokens);
  grow(scratch.logits, kHeadsPerPass * kRunTokens);
  grow(scratch.weights, runs * heads * kRunTokens);
  grow(scratch.sums, runs * heads);
  grow(scratch.factors, runs * heads);

  for (size_t first = 0; first < heads; first += kHeadsPerPass) {
    const size_t pass_heads = std::min(kHeadsPerPass, heads - first);
    const PassQuery query(index, queries + first * index.spec().shape.head_dim, pass_heads, scale,
                          scratch);
    for (size_t r = 0; r < runs; ++r) {
      query.Score(r, tokens_of(r));
      for (size_t h = 0; h < pass_heads; ++h) {
        const size_t at = r * heads + first + h;
        float* weights = scratch.weights.data() + at * kRunTokens;
        scratch.sums[at] = query.Weigh(h, tokens_of(r), weights);
      }
    }
  }
  for (size_t h = 0; h < heads; ++h) {
    Normalise(scratch.sums.data() + h, runs, heads, scratch.factors.data() + h);
  }
  for (size_t r = 0; r < runs; ++r) {
    CombineHeads(scratch.weights.data() + r * heads * kRunTokens,
                 scratch.factors.data() + r * heads, heads, tokens_of(r), scores + r * kRunTokens);
  }
}

}  // namespace passband::kernels
