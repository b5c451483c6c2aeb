// Goal: the forward pass computes Llama: its logits are those of a plain
// implementation in double, for every feature of the architecture and for every
// way of cutting a sequence into calls.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "llama/local_attention.h"
#include "llama/model.h"
#include "tests/llama/reference_llama.h"

namespace passband {
namespace {

using testing_support::FloatTensors;
using testing_support::ReferenceLlama;
using testing_support::TempFolder;
using testing_support::TinyShape;

constexpr double kTolerance = 2e-3;

struct Tiny {
  TempFolder folder;
  FloatTensors tensors;
  std::unique_ptr<LlamaModel> model;

  Tiny(const TinyShape& shape, uint64_t seed) : tensors(shape.RandomTensors(seed)) {
    WriteCheckpoint(folder.path(), shape, tensors);
    auto loaded = LlamaModel::Load(folder.path(), {.threads = 2});
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    if (loaded.ok()) model = *std::move(loaded);
  }
};

std::vector<uint32_t> RandomTokens(uint64_t seed, size_t count, uint32_t vocab) {
  std::mt19937_64 random(seed);
  std::vector<uint32_t> out(count);
  for (uint32_t& token : out) token = static_cast<uint32_t>(random() % vocab);
  return out;
}

// Plain RoPE of the tiny checkpoints (theta 1000).
std::function<double(uint32_t)> PlainFrequency(const TinyShape& shape) {
  const double rotary = shape.partial_rotary * shape.head_dim;
  return [rotary](uint32_t i) { return std::pow(1000.0, -2.0 * i / rotary); };
}

void ExpectLogits(std::span<const float> got, const ReferenceLlama::Vector& wanted,
                  const std::string& where) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], wanted[i], kTolerance) << where << ", token " << i;
  }
}

// Prefills everything at once and compares every position.
void ExpectPrefillMatches(const TinyShape& shape, std::function<double(uint32_t)> frequency,
                          uint64_t seed, size_t length = 70) {
  SCOPED_TRACE(fmt::format("seed {}", seed));
  const Tiny tiny(shape, seed);
  ASSERT_NE(tiny.model, nullptr);
  const std::vector<uint32_t> tokens = RandomTokens(seed, length, shape.vocab);
  const auto wanted = ReferenceLlama(shape, tiny.tensors, std::move(frequency)).Logits(tokens);
  LocalAttention attention(tiny.model->config(), tiny.model->pool());
  const BatchItem item{.token_ids = tokens, .logits = static_cast<uint32_t>(length)};
  const auto logits = tiny.model->Forward({&item, 1}, attention);
  ASSERT_TRUE(logits.ok()) << logits.status();
  ASSERT_EQ(logits->rows(), length);
  for (size_t i = 0; i < length; ++i) {
    ExpectLogits(logits->row(i), wanted[i], fmt::format("position {}", i));
  }
}

uint64_t FreshSeed() { return std::random_device{}(); }

TEST(ForwardTest, GroupedQueryAttentionTiedHead) {
  const TinyShape shape;
  ExpectPrefillMatches(shape, PlainFrequency(shape), FreshSeed());
}

TEST(ForwardTest, MoreThanOneBlockOfPositions) {
  const TinyShape shape{.layers = 1};
  ExpectPrefillMatches(shape, PlainFrequency(shape), FreshSeed(), /*length=*/300);
}

TEST(ForwardTest, UntiedHeadAndNoGrouping) {
  const TinyShape shape{.q_heads = 3, .kv_heads = 3, .tied = false};
  ExpectPrefillMatches(shape, PlainFrequency(shape), FreshSeed());
}

TEST(ForwardTest, LlamaBiasesEverywhere) {
  const TinyShape shape{.qkv_bias = true, .output_bias = true, .mlp_bias = true};
  ExpectPrefillMatches(shape, PlainFrequency(shape), FreshSeed());
}

TEST(ForwardTest, Qwen2BiasesOfQueriesKeysAndValuesOnly) {
  const TinyShape shape{.model_type = "qwen2", .qkv_bias = true};
  ExpectPrefillMatches(shape, PlainFrequency(shape), FreshSeed());
}

TEST(ForwardTest, PartialRotation) {
  const TinyShape shape{.partial_rotary = 0.5};
  ExpectPrefillMatches(shape, PlainFrequency(shape), FreshSeed());
}

TEST(ForwardTest, LinearRopeScaling) {
  const TinyShape shape{.rope_scaling = R"({"type":"linear","factor":4.0})"};
  const auto plain = PlainFrequency(shape);
  ExpectPrefillMatches(
      shape, [plain](uint32_t i) { return plain(i) / 4; }, FreshSeed());
}

TEST(ForwardTest, Llama3RopeScaling) {
  const TinyShape shape{.rope_scaling =
                            R"({"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,)"
                            R"("high_freq_factor":4.0,"original_max_position_embeddings":64})"};
  const auto plain = PlainFrequency(shape);
  // Turns within the original 64 positions: above 4 kept, below 1 divided by 8,
  // between them a straight line.
  const auto scaled = [plain](uint32_t i) {
    const double turns = 64 * plain(i) / (2 * M_PI);
    const double kept = std::clamp((turns - 1) / 3, 0.0, 1.0);
    return plain(i) * (kept + (1 - kept) / 8);
  };
  ExpectPrefillMatches(shape, scaled, FreshSeed());
}

TEST(ForwardTest, AttentionReadsKeysAndValuesAsStored) {
  const TinyShape shape{.layers = 1, .dtype = "bfloat16"};
  const uint64_t seed = FreshSeed();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  const Tiny tiny(shape, seed);
  const std::vector<uint32_t> tokens = RandomTokens(seed, 40, shape.vocab);
  const auto to_bf16 = [](double x) {
    int exponent = 0;
    const double mantissa = std::frexp(x, &exponent);
    return std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8);
  };
  const auto rounded =
      ReferenceLlama(shape, tiny.tensors, PlainFrequency(shape), to_bf16).Logits(tokens);
  const auto exact = ReferenceLlama(shape, tiny.tensors, PlainFrequency(shape)).Logits(tokens);
  LocalAttention attention(tiny.model->config(), tiny.model->pool());
  const BatchItem item{.token_ids = tokens, .logits = 40};
  const auto logits = tiny.model->Forward({&item, 1}, attention);
  ASSERT_TRUE(logits.ok()) << logits.status();
  double from_rounded = 0;
  double from_exact = 0;
  for (size_t p = 0; p < 40; ++p) {
    for (uint32_t i = 0; i < shape.vocab; ++i) {
      from_rounded += std::abs(static_cast<double>(logits->row(p)[i]) - rounded[p][i]);
      from_exact += std::abs(static_cast<double>(logits->row(p)[i]) - exact[p][i]);
    }
  }
  // An element on the edge may round the other way; on the whole it must be
  // the rounded values that were read.
  EXPECT_LT(from_rounded * 5, from_exact);
}

TEST(ForwardTest, EveryCutOfASequenceGivesTheSameLogits) {
  const TinyShape shape{.dtype = "bfloat16"};
  const uint64_t seed = FreshSeed();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  const Tiny tiny(shape, seed);
  const std::vector<uint32_t> tokens = RandomTokens(seed, 150, shape.vocab);
  LocalAttention attention(tiny.model->config(), tiny.model->pool());
  const BatchItem whole{.token_ids = tokens, .handle = 1, .logits = 150};
  const auto at_once = tiny.model->Forward({&whole, 1}, attention);
  ASSERT_TRUE(at_once.ok()) << at_once.status();
  std::mt19937_64 random(seed);
  for (size_t first = 0; first < tokens.size();) {
    const size_t count =
        std::min<size_t>(random() % 3 == 0 ? 1 + random() % 40 : 1, tokens.size() - first);
    const BatchItem piece{.token_ids = std::span(tokens).subspan(first, count),
                          .first_position = first,
                          .handle = 2,
                          .logits = static_cast<uint32_t>(count)};
    const auto logits = tiny.model->Forward({&piece, 1}, attention);
    ASSERT_TRUE(logits.ok()) << logits.status();
    for (size_t i = 0; i < count; ++i) {
      for (uint32_t token = 0; token < shape.vocab; ++token) {
        // bf16 rows: a different order of sums may round a key to its neighbour.
        ASSERT_NEAR(logits->row(i)[token], at_once->row(first + i)[token], 0.05)
            << "position " << first + i;
      }
    }
    first += count;
  }
}

TEST(ForwardTest, ABatchDecodesEachSequenceAsIfAlone) {
  const TinyShape shape;
  const uint64_t seed = FreshSeed();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  const Tiny tiny(shape, seed);
  LocalAttention attention(tiny.model->config(), tiny.model->pool());
  std::vector<std::vector<uint32_t>> sequences;
  std::vector<BatchItem> prompts;
  std::vector<BatchItem> steps;
  for (uint64_t handle = 0; handle < 3; ++handle) {
    sequences.push_back(RandomTokens(seed + handle, 5 + 60 * handle, shape.vocab));
  }
  for (uint64_t handle = 0; handle < 3; ++handle) {
    const std::span<const uint32_t> all = sequences[handle];
    prompts.push_back({.token_ids = all.first(all.size() - 1), .handle = handle, .logits = 0});
    steps.push_back({.token_ids = all.last(1), .first_position = all.size() - 1, .handle = handle});
  }
  const auto nothing = tiny.model->Forward(prompts, attention);
  ASSERT_TRUE(nothing.ok()) << nothing.status();
  EXPECT_EQ(nothing->rows(), 0);
  const auto logits = tiny.model->Forward(steps, attention);
  ASSERT_TRUE(logits.ok()) << logits.status();
  ASSERT_EQ(logits->rows(), 3);
  const ReferenceLlama reference(shape, tiny.tensors, PlainFrequency(shape));
  for (size_t i = 0; i < 3; ++i) {
    ExpectLogits(logits->row(i), reference.Logits(sequences[i]).back(),
                 fmt::format("sequence {}", i));
  }
}

TEST(ForwardTest, RefusesBatchesItCannotRun) {
  const TinyShape shape;
  const Tiny tiny(shape, 1);
  LocalAttention attention(tiny.model->config(), tiny.model->pool());
  const std::vector<uint32_t> good = {1, 2, 3};
  const std::vector<uint32_t> unknown = {1, shape.vocab};
  const auto code = [&](const BatchItem& item) {
    return tiny.model->Forward({&item, 1}, attention).status().code();
  };
  EXPECT_EQ(tiny.model->Forward({}, attention).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.token_ids = unknown}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.token_ids = good, .first_position = 510}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.token_ids = good, .first_position = ~uint64_t{0}}),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.token_ids = good, .logits = 4}), StatusCode::kInvalidArgument);
  // A gap: the backend refuses, and its error comes out.
  EXPECT_EQ(code({.token_ids = good, .first_position = 7}), StatusCode::kInvalidArgument);
}

TEST(ForwardTest, RefusesACheckpointThatIsNotTheConfigs) {
  const TinyShape shape;
  const TempFolder folder;
  FloatTensors tensors = shape.RandomTensors(1);
  tensors.at("model.layers.1.mlp.up_proj.weight").shape = {20, 96};
  WriteCheckpoint(folder.path(), shape, tensors);
  const Status wrong = LlamaModel::Load(folder.path()).status();
  EXPECT_EQ(wrong.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(Message(wrong).find("model.layers.1.mlp.up_proj.weight"), std::string::npos) << wrong;
  tensors = shape.RandomTensors(1);
  tensors.erase("model.norm.weight");
  WriteCheckpoint(folder.path(), shape, tensors);
  const Status missing = LlamaModel::Load(folder.path()).status();
  EXPECT_EQ(missing.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(Message(missing).find("model.norm.weight"), std::string::npos) << missing;
}

}  // namespace
}  // namespace passband
