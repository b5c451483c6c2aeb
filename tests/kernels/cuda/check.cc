// Checks the CUDA backend against the CPU's slices and a float64 reference, on fresh
// random inputs. Ends with 1 at the first difference, with 77 where there is no GPU.
//
//   kernels_cuda_check [--small] [--seed n] [--rounds n]
//
// --small keeps shapes small, for compute-sanitizer.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "kernels/cuda/fac.h"
#include "kernels/cuda/gather.h"
#include "kernels/cuda/slices.h"
#include "kernels/cuda/tip_select.h"
#include "kernels/reference/reference.h"
#include "kernels/tip.h"
#include "tests/kernels/cuda/gpu.h"
#include "tests/kernels/random_inputs.h"

namespace passband::kernels::cuda {
namespace {

struct Context {
  RandomInputs random;
  DeviceInfo device;
  Stream stream;
  bool small = false;
};

#define EXPECT(condition, ...)                                           \
  do {                                                                   \
    if (!(condition)) {                                                  \
      std::printf("FAILED %s:%d: %s: ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                          \
      std::printf("\n");                                                 \
      std::exit(1);                                                      \
    }                                                                    \
  } while (false)

// Specs of `kv_heads` heads that differ in chunks, means and deviations.
std::vector<SliceSpec> Specs(Context& c, SliceEncoding encoding, int kv_heads, DType dtype,
                             int chunks = 0) {
  HeadShape shape = c.random.Shape();
  shape.dtype = dtype;
  const int most = std::min(64, shape.chunks());
  const int count = std::min(most, chunks > 0 ? chunks : c.random.Uniform(1, most));
  std::vector<SliceSpec> specs;
  for (int h = 0; h < kv_heads; ++h) specs.push_back(*c.random.Spec(shape, encoding, count));
  return specs;
}

// A layer's index of many sequences, on the GPU and its slices on the CPU.
struct Layer {
  std::vector<SliceSpec> specs;
  SliceRecipes recipes;
  int sequences = 1;
  uint32_t max_tokens = 0;
  std::vector<uint32_t> tokens;                // [sequences]
  std::vector<std::vector<std::byte>> slices;  // [problems]
  std::vector<Array<std::byte>> tiles;         // [problems]
  std::unique_ptr<Array<std::byte*>> tile_pointers;
  int problems() const { return sequences * static_cast<int>(specs.size()); }
  const SliceSpec& spec(int problem) const {
    return specs[static_cast<size_t>(problem) % specs.size()];
  }
};

Layer MakeLayer(Context& c, std::vector<SliceSpec> specs, std::vector<uint32_t> tokens) {
  Layer layer;
  layer.specs = std::move(specs);
  layer.recipes = Require(SliceRecipes::Upload(layer.specs));
  layer.sequences = static_cast<int>(tokens.size());
  layer.tokens = tokens;
  layer.max_tokens = *std::max_element(tokens.begin(), tokens.end());
  std::vector<std::byte*> pointers;
  for (int p = 0; p < layer.problems(); ++p) {
    layer.tiles.emplace_back(c.stream, layer.recipes.shape().index_bytes(layer.max_tokens));
    layer.tiles.back().Poison();
    pointers.push_back(layer.tiles.back().data());
  }
  layer.tile_pointers = std::make_unique<Array<std::byte*>>(c.stream, pointers);
  layer.slices.resize(static_cast<size_t>(layer.problems()));
  return layer;
}

// Appends to each sequence its tokens, in pieces of the same size for all.
void FillLayer(Context& c, Layer& layer, bool as_slices) {
  const SliceShape& shape = layer.recipes.shape();
  const size_t key_bytes = shape.head.key_bytes();
  std::vector<uint32_t> begin(layer.tokens.size(), 0);
  std::vector<std::vector<std::byte>> keys(layer.slices.size());
  for (int p = 0; p < layer.problems(); ++p) {
    const auto at = static_cast<size_t>(p);
    const uint32_t tokens = layer.tokens[at / layer.specs.size()];
    keys[at] =
        c.random.Elements(size_t{layer.max_tokens} * shape.head.head_dim, shape.head.dtype, 2.0F);
    layer.slices[at].resize(size_t{layer.max_tokens} * shape.slice_bytes());
    kernels::EncodeSlices(layer.spec(p), keys[at].data(), key_bytes, layer.max_tokens,
                          layer.slices[at].data());
    layer.slices[at].resize(size_t{tokens} * shape.slice_bytes());
  }
  // Sequences are filled one by one, since a call appends as much to each of its own.
  const auto kv_heads = layer.specs.size();
  for (int sequence = 0; sequence < layer.sequences; ++sequence) {
    const auto first = static_cast<size_t>(sequence) * kv_heads;
    const uint32_t all = layer.tokens[static_cast<size_t>(sequence)];
    for (uint32_t done = 0; done < all;) {
      const uint32_t piece = std::min(all - done, c.random.OneOf<uint32_t>({1, 37, 128, 700, all}));
      const size_t stride = as_slices ? shape.slice_bytes() : key_bytes;
      std::vector<std::byte> data;
      for (size_t h = 0; h < kv_heads; ++h) {
        const auto& from = as_slices ? layer.slices[first + h] : keys[first + h];
        data.insert(data.end(), from.begin() + static_cast<ptrdiff_t>(done * stride),
                    from.begin() + static_cast<ptrdiff_t>((done + piece) * stride));
      }
      const Array<std::byte> there(c.stream, data);
      const Array<uint32_t> from(c.stream, std::vector<uint32_t>{done});
      IndexArgs args;
      args.recipes = &layer.recipes;
      args.tokens = piece;
      args.begin = from.data();
      args.tiles = layer.tile_pointers->data() + first;
      args.data = there.data();
      args.problem_stride = piece * stride;
      args.token_stride = stride;
      Require(as_slices ? AppendSlices(args, c.stream.handle())
                        : AppendKeys(args, c.stream.handle()));
      Require(c.stream.Synchronize());
      done += piece;
    }
  }
}

void CheckIndex(Context& c, const Layer& layer) {
  const SliceShape& shape = layer.recipes.shape();
  for (int p = 0; p < layer.problems(); ++p) {
    const auto& expected = layer.slices[static_cast<size_t>(p)];
    const auto kv_heads = static_cast<int>(layer.specs.size());
    if (expected.empty() || p % kv_heads != 0) continue;
    const uint32_t tokens = layer.tokens[static_cast<size_t>(p / kv_heads)];
    const size_t bytes = size_t{tokens} * shape.slice_bytes();
    Array<std::byte> out(c.stream, bytes * layer.specs.size());
    out.Poison();
    const Array<uint32_t> begin(c.stream, std::vector<uint32_t>{0});
    IndexArgs args;
    args.recipes = &layer.recipes;
    args.tokens = tokens;
    args.begin = begin.data();
    args.tiles = layer.tile_pointers->data() + p;
    args.problem_stride = bytes;
    args.token_stride = shape.slice_bytes();
    Require(CopySlices(args, out.data(), c.stream.handle()));
    const std::vector<std::byte> got = out.Get();
    for (int h = 0; h < kv_heads; ++h) {
      const auto& slices = layer.slices[static_cast<size_t>(p + h)];
      EXPECT(std::memcmp(got.data() + static_cast<size_t>(h) * bytes, slices.data(), bytes) == 0,
             "index of encoding %d, %d chunks, %u tokens", static_cast<int>(shape.encoding),
             shape.chunks, tokens);
    }
  }
}

void CheckEncode(Context& c) {
  for (const SliceEncoding encoding : kAllEncodings) {
    for (const DType dtype : {DType::kBf16, DType::kF16, DType::kF32}) {
      const auto specs = Specs(c, encoding, 2, dtype);
      const SliceRecipes recipes = Require(SliceRecipes::Upload(specs));
      const HeadShape& shape = specs[1].shape;
      const size_t tokens = static_cast<size_t>(c.random.Uniform(1, c.small ? 60 : 3000));
      std::vector<float> values =
          c.random.Normals(tokens * shape.head_dim, c.random.OneOf({1.0F, 30.0F, 1e-3F}));
      const float odd[] = {NAN, INFINITY, -INFINITY, 0.0F, -0.0F, 1e38F, -1e38F, 1e-40F, 447.9F};
      for (const float value : odd) {
        values[static_cast<size_t>(c.random.Uniform(0, static_cast<int>(values.size()) - 1))] =
            value;
      }
      std::vector<std::byte> keys(values.size() * DTypeBytes(dtype));
      FloatToDType(values.data(), values.size(), dtype, keys.data());
      std::vector<std::byte> expected(tokens * specs[1].slice_bytes());
      kernels::EncodeSlices(specs[1], keys.data(), shape.key_bytes(), tokens, expected.data());
      const Array<std::byte> there(c.stream, keys);
      Array<std::byte> out(c.stream, expected.size());
      out.Poison();
      const EncodeArgs args = {&recipes, 1, there.data(), shape.key_bytes(), tokens, out.data()};
      Require(EncodeSlices(args, c.stream.handle()));
      EXPECT(out.Get() == expected, "encoding %d of dtype %d", static_cast<int>(encoding),
             static_cast<int>(dtype));
    }
  }
}

struct TipCase {
  int group = 4;
  float scale = 0.1F;
  float query_size = 1.0F;
  SelectOptions select;
  uint32_t held_tiles = UINT32_MAX;  // at most, so that the others spill
  bool reference = true;             // also against double
};

// The smallest score among the chosen that were not forced.
float LastScore(const std::vector<float>& scores, const std::vector<uint32_t>& chosen,
                const SelectOptions& select) {
  float last = INFINITY;
  for (const uint32_t t : chosen) {
    if (t >= select.sinks && t + select.recent < scores.size()) last = std::min(last, scores[t]);
  }
  return last;
}

// `got` is `expected`, but for tokens whose scores are those of the last within `slack`.
void CheckSelection(const std::vector<float>& scores, const std::vector<uint32_t>& got,
                    const std::vector<uint32_t>& expected, const SelectOptions& select, float slack,
                    const char* what) {
  EXPECT(got.size() == expected.size(), "%s: %zu of %zu", what, got.size(), expected.size());
  EXPECT(std::is_sorted(got.begin(), got.end()), "%s: not in order", what);
  EXPECT(std::adjacent_find(got.begin(), got.end()) == got.end(), "%s: a token twice", what);
  const float last = LastScore(scores, expected, select);
  std::vector<uint32_t> differ;
  std::set_symmetric_difference(got.begin(), got.end(), expected.begin(), expected.end(),
                                std::back_inserter(differ));
  for (const uint32_t t : differ) {
    EXPECT(t < scores.size() && std::fabs(scores[t] - last) <= slack * last,
           "%s: token %u of score %g, the last has %g", what, t, double{scores[t]}, double{last});
  }
}

// Of tokens with equal slices the newer ones are chosen.
void CheckTies(const Layer& layer, int problem, const std::vector<uint32_t>& got, uint32_t tokens,
               const SelectOptions& select) {
  const size_t bytes = layer.recipes.shape().slice_bytes();
  const auto& slices = layer.slices[static_cast<size_t>(problem)];
  const std::set<uint32_t> chosen(got.begin(), got.end());
  std::set<std::string> chosen_slices;  // of older tokens
  for (uint32_t t = select.sinks; t + select.recent < tokens; ++t) {
    const std::string slice(reinterpret_cast<const char*>(slices.data() + t * bytes), bytes);
    if (chosen.count(t) != 0) {
      chosen_slices.insert(slice);
    } else {
      EXPECT(chosen_slices.count(slice) == 0, "token %u loses to an older equal one", t);
    }
  }
}

void CheckTip(Context& c, const Layer& layer, const TipCase& test) {
  const auto problems = static_cast<size_t>(layer.problems());
  const HeadShape& shape = layer.recipes.shape().head;
  const auto group = static_cast<size_t>(test.group);
  const std::vector<float> queries =
      c.random.Normals(problems * group * shape.head_dim, test.query_size);
  const Array<float> queries_there(c.stream, queries);
  const Array<uint32_t> tokens_there(c.stream, layer.tokens);
  Array<uint32_t> selected(c.stream, problems * test.select.budget);
  Array<uint32_t> counts(c.stream, problems);
  Array<float> scores_there(c.stream, problems * layer.max_tokens);
  selected.Poison();
  counts.Poison();
  TipSelectArgs args;
  args.recipes = &layer.recipes;
  args.sequences = layer.sequences;
  args.group = test.group;
  args.scale = test.scale;
  args.select = test.select;
  args.max_tokens = layer.max_tokens;
  args.tiles = layer.tile_pointers->data();
  args.tokens = tokens_there.data();
  args.queries = queries_there.data();
  args.selected = selected.data();
  args.counts = counts.data();
  TipSelectPlan plan = Require(PlanTipSelect(args, c.device));
  if (plan.held_tiles > test.held_tiles) {
    plan.spilled_tiles += plan.held_tiles - test.held_tiles;
    plan.held_tiles = test.held_tiles;
    plan.workspace_bytes = problems * static_cast<size_t>(plan.blocks) * plan.spilled_tiles *
                           RecordBytes(PaddedHeads(test.group));
  }
  Array<std::byte> workspace(c.stream, plan.workspace_bytes);
  workspace.Poison();
  args.workspace = workspace.data();
  Require(TipSelect(args, plan, c.stream.handle()));
  const std::vector<uint32_t> first = selected.Get();
  selected.Poison();
  scores_there.Poison();
  args.scores = scores_there.data();
  Require(TipSelect(args, plan, c.stream.handle()));
  EXPECT(selected.Get() == first, "two runs differ");
  const std::vector<float> all_scores = scores_there.Get();
  const std::vector<uint32_t> all_counts = counts.Get();
  for (size_t p = 0; p < problems; ++p) {
    const SliceSpec& spec = layer.spec(static_cast<int>(p));
    const uint32_t tokens = layer.tokens[p / layer.specs.size()];
    if (tokens == 0) {
      EXPECT(all_counts[p] == 0, "no tokens, %u selected", all_counts[p]);
      continue;
    }
    const auto begin = all_scores.begin() + static_cast<ptrdiff_t>(p * layer.max_tokens);
    const std::vector<float> scores(begin, begin + tokens);
    EXPECT(all_counts[p] == std::min(tokens, test.select.budget), "%u selected", all_counts[p]);
    const auto from = first.begin() + static_cast<ptrdiff_t>(p * test.select.budget);
    const std::vector<uint32_t> got(from, from + all_counts[p]);
    const float* q = queries.data() + p * group * shape.head_dim;

    TipScratch scratch;
    SliceIndex index(std::make_shared<SliceSpec>(spec));
    index.AppendSlices(layer.slices[p].data(), tokens);
    std::vector<float> cpu_scores(tokens);
    TipScores(index, q, test.group, test.scale, scratch, cpu_scores.data());
    const bool is_int = IsIntEncoding(spec.encoding);
    const float slack = is_int ? 2e-5F : 1e-4F;
    if (test.reference) {
      const auto exact =
          reference::TipScores(spec, layer.slices[p], tokens, q, test.group, test.scale);
      const double most = *std::max_element(exact.begin(), exact.end());
      for (uint32_t t = 0; t < tokens; ++t) {
        EXPECT(std::fabs(scores[t] - exact[t]) <= slack * exact[t] + 1e-30 * most,
               "score of token %u: %g, exactly %g (encoding %d, group %d)", t, double{scores[t]},
               exact[t], static_cast<int>(spec.encoding), test.group);
      }
    }
    SelectScratch select_scratch;
    std::vector<uint32_t> expected;
    SelectTokens(scores, test.select, select_scratch, expected);
    CheckSelection(scores, got, expected, test.select, is_int ? 1e-5F : 1e-4F, "GPU's scores");
    SelectTokens(cpu_scores, test.select, select_scratch, expected);
    CheckSelection(cpu_scores, got, expected, test.select, 2 * slack, "CPU's scores");
    if (tokens > test.select.budget) {
      CheckTies(layer, static_cast<int>(p), got, tokens, test.select);
    }
  }
}

void CheckTips(Context& c) {
  for (const SliceEncoding encoding : kAllEncodings) {
    for (const int group : {1, 4, 7}) {
      const auto tokens = [&] {
        return static_cast<uint32_t>(c.random.Uniform(1, c.small ? 400 : 6000));
      };
      const int chunks = c.random.OneOf({0, 16, 24, 32});
      Layer layer = MakeLayer(c, Specs(c, encoding, 2, DType::kBf16, chunks),
                              {tokens(), 0, tokens(), tokens()});
      FillLayer(c, layer, group == 4);
      CheckIndex(c, layer);
      TipCase test;
      test.group = group;
      test.scale = 0.05F;
      test.query_size = c.random.OneOf({0.3F, 1.0F, 5.0F});
      const auto sinks = c.random.OneOf<uint32_t>({0, 4});
      const auto recent = c.random.OneOf<uint32_t>({0, 64});
      test.select = {sinks + recent + c.random.OneOf<uint32_t>({1, 60, 188}), sinks, recent};
      CheckTip(c, layer, test);
      test.held_tiles = 2;
      CheckTip(c, layer, test);
    }
  }
}

// Equal scores: all of them, or of 16 kinds.
void CheckEqualScores(Context& c) {
  const uint32_t tokens = c.small ? 1500 : 20000;
  Layer layer = MakeLayer(c, Specs(c, SliceEncoding::kInt2, 2, DType::kBf16, 1), {tokens, 300});
  FillLayer(c, layer, false);
  TipCase test;
  CheckTip(c, layer, test);
  test.query_size = 0;
  CheckTip(c, layer, test);
  test.select.budget = 1000;
  CheckTip(c, layer, test);
  test.held_tiles = 1;
  CheckTip(c, layer, test);
}

void CheckLong(Context& c) {
  for (const SliceEncoding encoding : {SliceEncoding::kInt2, SliceEncoding::kInt4}) {
    const bool two_bits = encoding == SliceEncoding::kInt2;
    for (const uint32_t budget : {two_bits ? 256U : 512U, two_bits ? 1024U : 3000U}) {
      Layer layer = MakeLayer(c, Specs(c, encoding, 2, DType::kBf16, 24), {131072, 40000});
      FillLayer(c, layer, false);
      TipCase test;
      test.select.budget = budget;
      test.reference = false;
      CheckTip(c, layer, test);
    }
  }
  Layer layer = MakeLayer(c, Specs(c, SliceEncoding::kInt2, 1, DType::kBf16, 24), {1000000});
  FillLayer(c, layer, true);
  TipCase test;
  test.reference = false;
  CheckTip(c, layer, test);
}

double Distance(const std::vector<float>& got, const std::vector<double>& exact) {
  double difference = 0;
  double size = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    difference += (got[i] - exact[i]) * (got[i] - exact[i]);
    size += exact[i] * exact[i];
  }
  return size > 0 ? std::sqrt(difference / size) : std::sqrt(difference);
}

struct FacCase {
  uint16_t head_dim = 128;
  int group = 4;
  std::vector<uint32_t> counts;
  MemoryKind memory = MemoryKind::kDevice;
  bool by_index = false;
  DType query_dtype = DType::kF32;
  DType out_dtype = DType::kF32;
};

void CheckFac(Context& c, const FacCase& test) {
  constexpr uint32_t kShift = 5;
  HeadShape shape = {test.head_dim, test.head_dim, RopeLayout::kHalf, DType::kBf16};
  const size_t problems = test.counts.size();
  const uint32_t pool = c.small ? 200 : 2000;
  const uint32_t pages = (pool >> kShift) + 1;
  const uint32_t max_rows = std::max(1U, *std::max_element(test.counts.begin(), test.counts.end()));
  const auto rows = c.random.Elements(size_t{pages << kShift} * 2 * test.head_dim, DType::kBf16);
  const Array<std::byte> rows_there(c.stream, rows, test.memory);
  std::vector<uint32_t> order(pages);  // of pages in memory
  std::iota(order.begin(), order.end(), 0U);
  std::shuffle(order.begin(), order.end(), c.random.engine());
  std::vector<uint32_t> indices;
  std::vector<const std::byte*> pointers;
  std::vector<const std::byte*> page_pointers;
  for (size_t p = 0; p < problems; ++p) {
    for (const uint32_t page : order) {
      page_pointers.push_back(rows_there.data() + (size_t{page} << kShift) * shape.row_bytes());
    }
    for (uint32_t i = 0; i < max_rows; ++i) {
      indices.push_back(static_cast<uint32_t>(c.random.Uniform(0, static_cast<int>(pool) - 1)));
      const size_t row = (order[indices.back() >> kShift] << kShift) + indices.back() % 32;
      pointers.push_back(rows_there.data() + row * shape.row_bytes());
    }
  }
  const auto queries = c.random.Elements(problems * static_cast<size_t>(test.group) * test.head_dim,
                                         test.query_dtype, 2.0F);
  std::vector<float> query_floats(queries.size() / DTypeBytes(test.query_dtype));
  DTypeToFloat(queries.data(), query_floats.size(), test.query_dtype, query_floats.data());

  const Array<std::byte> queries_there(c.stream, queries);
  const Array<uint32_t> counts(c.stream, test.counts);
  const Array<uint32_t> indices_there(c.stream, indices);
  const Array<const std::byte*> pointers_there(c.stream, pointers);
  const Array<const std::byte*> pages_there(c.stream, page_pointers);
  Array<std::byte> out(c.stream, query_floats.size() * DTypeBytes(test.out_dtype));
  out.Poison();
  FacArgs args;
  args.shape = shape;
  args.problems = static_cast<int>(problems);
  args.group = test.group;
  args.scale = 1.0F / std::sqrt(static_cast<float>(test.head_dim));
  args.max_rows = max_rows;
  args.counts = counts.data();
  if (test.by_index) {
    args.indices = indices_there.data();
    args.pages = pages_there.data();
    args.pages_per_problem = pages;
    args.page_shift = kShift;
  } else {
    args.rows = pointers_there.data();
  }
  args.queries = queries_there.data();
  args.query_dtype = test.query_dtype;
  args.out = out.data();
  args.out_dtype = test.out_dtype;
  Require(Fac(args, Require(PlanFac(args, c.device)), c.stream.handle()));
  const std::vector<std::byte> out_bytes = out.Get();
  std::vector<float> all(query_floats.size());
  DTypeToFloat(out_bytes.data(), all.size(), test.out_dtype, all.data());

  const size_t of_problem = static_cast<size_t>(test.group) * test.head_dim;
  for (size_t p = 0; p < problems; ++p) {
    std::vector<const std::byte*> chosen;
    for (uint32_t i = 0; i < test.counts[p]; ++i) {
      const ptrdiff_t at = pointers[p * max_rows + i] - rows_there.data();
      chosen.push_back(rows.data() + at);
    }
    FacParams params = {shape, test.group, args.scale, query_floats.data() + p * of_problem};
    const auto exact = reference::Fac(params, chosen);
    const std::vector<float> got(all.begin() + static_cast<ptrdiff_t>(p * of_problem),
                                 all.begin() + static_cast<ptrdiff_t>((p + 1) * of_problem));
    const double distance = Distance(got, exact.out);
    const double most = test.out_dtype == DType::kBf16 ? 4e-3 : 1e-4;
    EXPECT(distance <= most, "distance %g: head_dim %d, group %d, %u rows", distance, test.head_dim,
           test.group, test.counts[p]);
  }
}

void CheckFacs(Context& c) {
  for (const uint16_t dim : {64, 80, 96, 128, 256}) {
    for (const int group : {1, 2, 4, 5, 8}) {
      FacCase test;
      test.head_dim = dim;
      test.group = group;
      const int most = c.small ? 90 : 1100;
      test.counts = {0, 1, static_cast<uint32_t>(c.random.Uniform(2, 40)),
                     static_cast<uint32_t>(c.random.Uniform(1, most)), c.small ? 64U : 256U};
      test.memory = c.random.OneOf({MemoryKind::kDevice, MemoryKind::kPinned});
      test.by_index = c.random.Uniform(0, 1) == 1;
      test.query_dtype = c.random.OneOf({DType::kF32, DType::kBf16});
      test.out_dtype = c.random.OneOf({DType::kF32, DType::kBf16});
      CheckFac(c, test);
    }
  }
}

void CheckGather(Context& c) {
  for (const MemoryKind kind : {MemoryKind::kDevice, MemoryKind::kPinned}) {
    const size_t row_bytes = c.random.OneOf<size_t>({16, 256, 320, 512, 1024});
    const auto bytes = c.random.Elements(300 * row_bytes / 4, DType::kF32);
    const Array<std::byte> there(c.stream, bytes, kind);
    std::vector<const std::byte*> rows;
    std::vector<std::byte> expected;
    for (int i = 0; i < 333; ++i) {
      const size_t at = static_cast<size_t>(c.random.Uniform(0, 299)) * row_bytes;
      rows.push_back(there.data() + at);
      expected.insert(expected.end(), bytes.begin() + static_cast<ptrdiff_t>(at),
                      bytes.begin() + static_cast<ptrdiff_t>(at + row_bytes));
    }
    const Array<const std::byte*> rows_there(c.stream, rows);
    Array<std::byte> out(c.stream, expected.size());
    out.Poison();
    Require(
        GatherRows({rows_there.data(), 333, nullptr, row_bytes, out.data()}, c.stream.handle()));
    EXPECT(out.Get() == expected, "rows of %zu bytes", row_bytes);
  }
}

// A recorded step follows the token counts in device memory.
void CheckGraph(Context& c) {
  const uint32_t most = c.small ? 900 : 9000;
  Layer layer = MakeLayer(c, Specs(c, SliceEncoding::kInt4, 1, DType::kBf16, 24), {most});
  FillLayer(c, layer, false);
  const HeadShape& shape = layer.recipes.shape().head;
  const Array<float> queries(c.stream, c.random.Normals(size_t{4} * shape.head_dim));
  Array<uint32_t> tokens(c.stream, std::vector<uint32_t>{most});
  Array<uint32_t> selected(c.stream, 256);
  Array<uint32_t> counts(c.stream, 1);
  TipSelectArgs args;
  args.recipes = &layer.recipes;
  args.group = 4;
  args.scale = 0.1F;
  args.max_tokens = most;
  args.tiles = layer.tile_pointers->data();
  args.tokens = tokens.data();
  args.queries = queries.data();
  args.selected = selected.data();
  args.counts = counts.data();
  const TipSelectPlan plan = Require(PlanTipSelect(args, c.device));
  const Graph graph = Require(
      Graph::Capture(c.stream, [&](StreamHandle stream) { return TipSelect(args, plan, stream); }));
  for (const uint32_t now : {most, most / 2, 100U, most - 1}) {
    tokens.Set({now});
    selected.Poison();
    Require(graph.Launch(c.stream.handle()));
    const std::vector<uint32_t> from_graph = selected.Get();
    selected.Poison();
    Require(TipSelect(args, plan, c.stream.handle()));
    EXPECT(selected.Get() == from_graph, "%u tokens", now);
    EXPECT(counts.Get()[0] == std::min(now, 256U), "%u tokens", now);
  }
}

void CheckRefusals(Context& c) {
  auto specs = Specs(c, SliceEncoding::kInt2, 2, DType::kBf16, 8);
  const SliceRecipes recipes = Require(SliceRecipes::Upload(specs));
  TipSelectArgs tip;
  tip.recipes = &recipes;
  tip.max_tokens = 1000;
  tip.group = 9;
  EXPECT(absl::IsUnimplemented(PlanTipSelect(tip, c.device).status()), "group of 9");
  tip.group = 4;
  tip.select.budget = 60;
  EXPECT(absl::IsInvalidArgument(PlanTipSelect(tip, c.device).status()), "budget below recent");
  tip.select.budget = 256;
  const TipSelectPlan plan = Require(PlanTipSelect(tip, c.device));
  EXPECT(absl::IsInvalidArgument(TipSelect(tip, plan, c.stream.handle())), "null pointers");
  FacArgs fac;
  fac.max_rows = 1;
  fac.shape.head_dim = 72;
  EXPECT(absl::IsUnimplemented(PlanFac(fac, c.device).status()), "head_dim 72");
  specs[1].deviation[0] = 0;
  EXPECT(absl::IsInvalidArgument(SliceRecipes::Upload(specs).status()), "deviation 0");
  if (c.small) return;  // compute-sanitizer reports failed calls
  const auto memory = Memory::Allocate(size_t{1} << 50);
  EXPECT(absl::IsResourceExhausted(memory.status()), "a pebibyte");
}

int Run(int argc, char** argv) {
  bool small = false;
  uint32_t seed = std::random_device()();
  int rounds = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--small") small = true;
    if (flag == "--seed" && i + 1 < argc)
      seed = static_cast<uint32_t>(std::strtoul(argv[++i], nullptr, 10));
    if (flag == "--rounds" && i + 1 < argc) rounds = std::atoi(argv[++i]);
  }
  const auto device = CurrentDevice();
  if (!device.ok()) {
    std::printf("no GPU to check on: %s\n", std::string(device.status().message()).c_str());
    return 77;
  }
  std::printf("%s, seed %u%s\n", device->name, seed, small ? ", small" : "");
  Context c = {RandomInputs(seed), *device, Require(Stream::Create()), small};
  struct {
    const char* name;
    void (*check)(Context&);
  } const checks[] = {{"encode", CheckEncode},
                      {"gather", CheckGather},
                      {"fac", CheckFacs},
                      {"tip and select", CheckTips},
                      {"equal scores", CheckEqualScores},
                      {"graph", CheckGraph},
                      {"refusals", CheckRefusals},
                      {"long", CheckLong}};
  for (int round = 0; round < rounds; ++round) {
    for (const auto& check : checks) {
      if (small && check.check == CheckLong) continue;
      std::printf("%s ... ", check.name);
      std::fflush(stdout);
      check.check(c);
      std::printf("ok\n");
    }
  }
  return 0;
}

}  // namespace
}  // namespace passband::kernels::cuda

int main(int argc, char** argv) { return passband::kernels::cuda::Run(argc, argv); }
