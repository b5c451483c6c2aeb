#include "kernels/tip.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>

#include "kernels/cpu/tip_kernels.h"

namespace passband::kernels {
namespace {

// Room for `count` of T, aligned for whole vectors.
template <class T>
T* Room(std::vector<TileWord>& memory, size_t count) {
  const size_t words = (count * sizeof(T) + sizeof(TileWord) - 1) / sizeof(TileWord);
  if (memory.size() < words) memory.resize(words);
  return reinterpret_cast<T*>(memory.data());
}

// The query heads [first, first + heads) of one call, ready for the loops.
class PassQuery {
 public:
  PassQuery(const SliceIndex& index, const float* queries, size_t heads, float scale,
            TipScratch& scratch)
      : index_(index) {
    const SliceSpec& spec = index.spec();
    if (spec.encoding == SliceEncoding::kInt2) {
      auto* tables = Room<LookupTable>(scratch.query, LookupTables(spec, heads));
      lookup_query_ = MakeLookupQuery(spec, queries, heads, scale, tables);
      ranges_ = lookup_query_.range;
    } else if (IsIntEncoding(spec.encoding)) {
      auto* vectors = Room<TileWord>(scratch.query, IntQueryWords(spec, heads));
      int_query_ = MakeIntQuery(spec, queries, heads, scale, vectors);
      ranges_ = int_query_.range;
    } else {
      const size_t floats = static_cast<size_t>(spec.components()) * heads;
      float_query_ =
          MakeFloatQuery(spec, queries, heads, scale, Room<float>(scratch.query, floats));
    }
    has_products_ = spec.encoding == SliceEncoding::kInt2 ||
                    (spec.encoding == SliceEncoding::kInt4 && int_query_.segments == 1);
    products_ = Room<uint16_t>(scratch.products, kHeadsPerPass * kRunTokens);
    logits_ = Room<float>(scratch.logits, kHeadsPerPass * kRunTokens);
  }

  // Scores `count` tokens of a run for all heads.
  void Score(size_t run, size_t count) {
    const SliceSpec& spec = index_.spec();
    const size_t next = run + 1 < index_.runs() ? run + 1 : run;
    const size_t tile_tokens = TileTokens(spec.encoding);
    const RunTiles tiles = {index_.run(run), index_.run(next), index_.words_per_tile(),
                            (count + tile_tokens - 1) / tile_tokens};
    if (spec.encoding == SliceEncoding::kInt2) {
      LookupProducts(tiles, lookup_query_, products_);
    } else if (has_products_) {
      Int4Products(tiles, int_query_, products_);
    } else if (IsIntEncoding(spec.encoding)) {
      IntLogits(spec.encoding, tiles, int_query_, logits_);
    } else {
      FloatLogits(spec.encoding, tiles, static_cast<size_t>(spec.components()), float_query_,
                  logits_);
    }
  }

  // Weighs what Score found of head `head`.
  RunSum Weigh(size_t head, size_t count, float* weights) {
    const LogitRange& range = ranges_[head];
    float* logits = logits_ + head * kRunTokens;
    if (has_products_) {
      const uint16_t* products = products_ + head * kRunTokens;
      const size_t tile_tokens = TileTokens(index_.spec().encoding);
      if (range.fixed_scale != 0) {
        return ProductWeights(products, tile_tokens, count, range, weights);
      }
      ProductLogits(products, tile_tokens, count, logits);
    }
    return RunWeights(logits, count, range, weights);
  }

 private:
  const SliceIndex& index_;
  LookupQuery lookup_query_;
  IntQuery int_query_;
  FloatQuery float_query_;
  std::array<LogitRange, kHeadsPerPass> ranges_ = {};
  bool has_products_ = false;  // else logits
  uint16_t* products_ = nullptr;
  float* logits_ = nullptr;
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
  auto* weights = Room<float>(scratch.weights, runs * heads * kRunTokens);
  grow(scratch.sums, runs * heads);
  grow(scratch.factors, runs * heads);

  for (size_t first = 0; first < heads; first += kHeadsPerPass) {
    const size_t pass_heads = std::min(kHeadsPerPass, heads - first);
    PassQuery query(index, queries + first * index.spec().shape.head_dim, pass_heads, scale,
                    scratch);
    for (size_t r = 0; r < runs; ++r) {
      query.Score(r, tokens_of(r));
      for (size_t h = 0; h < pass_heads; ++h) {
        const size_t at = r * heads + first + h;
        scratch.sums[at] = query.Weigh(h, tokens_of(r), weights + at * kRunTokens);
      }
    }
  }
  for (size_t h = 0; h < heads; ++h) {
    Normalise(scratch.sums.data() + h, runs, heads, scratch.factors.data() + h);
  }
  for (size_t r = 0; r < runs; ++r) {
    CombineHeads(weights + r * heads * kRunTokens, scratch.factors.data() + r * heads, heads,
                 tokens_of(r), scores + r * kRunTokens);
  }
}

}  // namespace passband::kernels
