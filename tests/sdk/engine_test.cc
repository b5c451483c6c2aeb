// Goal: the engine attends to exactly what it should: everything when the
// budget allows, the selector's tokens otherwise, alone or in a batch; and it
// asks the service for no more than it must.
#include "sdk/engine.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "gtest/gtest.h"
#include "tests/support/engine_world.h"

namespace passband::testing {
namespace {

void ExpectNear(const std::vector<float>& out, const std::vector<double>& expected) {
  ASSERT_EQ(out.size(), expected.size());
  for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(double{out[i]}, expected[i], 1e-4) << i;
}

Driven OpenWith(Engine& engine, const EngineWorld& world, const std::vector<uint32_t>& ids,
                Random& random) {
  Driven driven;
  auto sequence = engine.Open(ids, /*share_prefix=*/false);
  EXPECT_TRUE(sequence.ok()) << sequence.status();
  driven.sequence = *std::move(sequence);
  const Status done = driven.Prefill(engine, world, ids, random);
  EXPECT_TRUE(done.ok()) << done;
  return driven;
}

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() : trace_(__FILE__, __LINE__, ::testing::Message() << "seed " << seed_) {}

  std::unique_ptr<Engine> Make(uint32_t budget, uint32_t hot_rows = 0) {
    EngineOptions options;
    options.select = {.budget = budget, .sinks = 2, .recent = 8};
    options.hot_rows = hot_rows;
    return world_.MakeEngine(service_, options);
  }

  const uint64_t seed_ = std::random_device{}();
  ::testing::ScopedTrace trace_;
  Random random_{seed_};
  EngineWorld world_{random_()};
  MapKvService service_;
};

TEST(EngineShapesTest, ABudgetOfAllTokensIsFullAttention) {
  for (int round = 0; round < 25; ++round) {
    const uint64_t seed = std::random_device{}();
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Random random(seed);
    const EngineWorld world(random());
    MapKvService service;
    EngineOptions options;
    options.select = {.budget = 400, .sinks = Below(random, 4), .recent = Below(random, 100)};
    options.hot_rows = 1 + Below(random, 500);
    const auto engine = world.MakeEngine(service, options);
    Driven driven = OpenWith(*engine, world, RandomIds(random, Below(random, 300)), random);
    for (int step = 0; step < 8; ++step) {
      const bool full = Below(random, 3) == 0;
      const auto outs = StepTokens(*engine, world, {&driven}, RandomIds(random, 1), full);
      ASSERT_TRUE(outs.ok()) << outs.status();
      for (uint32_t layer = 0; layer < world.model.layers; ++layer) {
        ExpectNear((*outs)[layer][0], world.Reference(layer, driven.ids, engine->options().scale));
      }
    }
    if (::testing::Test::HasFailure()) return;
  }
}

TEST_F(EngineTest, FullStepIsStepWithEveryTokenChosen) {
  const auto engine = Make(1000);
  const std::vector<uint32_t> ids = RandomIds(random_, 230);
  Driven sparse = OpenWith(*engine, world_, ids, random_);
  Driven full = OpenWith(*engine, world_, ids, random_);
  const std::vector<uint32_t> next = RandomIds(random_, 1);
  const auto a = StepTokens(*engine, world_, {&sparse}, next);
  const auto b = StepTokens(*engine, world_, {&full}, next, /*full=*/true);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(*a, *b);
  EXPECT_EQ(engine->stats().full_attention_bytes, 2 * 231 * world_.model.token_bytes());
}

TEST_F(EngineTest, ABatchGivesWhatItsSequencesGiveAlone) {
  const auto engine = Make(40);
  std::vector<Driven> alone;
  std::vector<Driven> together;
  for (int i = 0; i < 5; ++i) {
    const std::vector<uint32_t> ids = RandomIds(random_, i == 0 ? 200 : 20 + Below(random_, 300));
    alone.push_back(OpenWith(*engine, world_, ids, random_));
    together.push_back(OpenWith(*engine, world_, ids, random_));
  }
  std::vector<Driven*> batch;
  for (Driven& driven : together) batch.push_back(&driven);
  for (int step = 0; step < 10; ++step) {
    const std::vector<uint32_t> next = RandomIds(random_, batch.size());
    const uint64_t fetches = service_.calls["StartFetch"];
    const auto outs = StepTokens(*engine, world_, batch, next);
    ASSERT_TRUE(outs.ok()) << outs.status();
    EXPECT_LE(service_.calls["StartFetch"], fetches + world_.model.layers);
    if (step == 0) {
      EXPECT_EQ(service_.calls["StartFetch"], fetches + world_.model.layers);
    }
    for (size_t i = 0; i < alone.size(); ++i) {
      const auto one = StepTokens(*engine, world_, {&alone[i]}, {next[i]});
      ASSERT_TRUE(one.ok()) << one.status();
      for (uint32_t layer = 0; layer < world_.model.layers; ++layer) {
        ASSERT_EQ((*one)[layer][0], (*outs)[layer][i]) << "layer " << layer << " item " << i;
      }
    }
  }
}

// Chooses the same old tokens every time, and counts what is in them.
class FixedSelector final : public TokenSelector {
 public:
  explicit FixedSelector(std::vector<std::vector<uint32_t>> sets) : sets_(std::move(sets)) {}
  Status Select(WorkerSequence&, uint32_t, uint32_t, uint64_t, const float*,
                std::vector<std::vector<uint32_t>>& sets) override {
    sets = sets_;
    return OkStatus();
  }

 private:
  std::vector<std::vector<uint32_t>> sets_;
};

class SelectorTest : public EngineTest {
 protected:
  // One step of layer 0.
  Status Step(Engine& engine, Driven& driven, TokenSelector& selector, std::vector<float>& out) {
    const uint64_t position = driven.sequence->length(0);
    const uint32_t id = Below(random_, 1000);
    queries_ = world_.Queries(0, position, id);
    const auto rows = world_.TokenRows(0, position, id);
    out.assign(world_.out_size(), 0);
    const StepItem item{.sequence = driven.sequence.get(),
                        .queries = queries_.data(),
                        .new_rows = rows.data(),
                        .out = out.data()};
    const Status status = engine.Step(0, {&item, 1}, selector);
    if (status.ok()) driven.ids.push_back(id);
    return status;
  }

  std::vector<uint32_t> RandomSet(uint32_t context) {
    std::set<uint32_t> set;
    const uint32_t count = Below(random_, 30);
    for (uint32_t i = 0; i < count; ++i) set.insert(Below(random_, context));
    return {set.begin(), set.end()};
  }

  std::vector<float> queries_;
};

TEST_F(SelectorTest, EachQueryHeadMayHaveItsOwnTokens) {
  const auto engine = Make(40, /*hot_rows=*/25);
  Driven driven = OpenWith(*engine, world_, RandomIds(random_, 200), random_);
  for (int step = 0; step < 12; ++step) {
    std::vector<std::vector<uint32_t>> sets;
    for (uint32_t i = 0; i < world_.model.group(); ++i) sets.push_back(RandomSet(201));
    FixedSelector selector(sets);
    std::vector<float> out;
    const Status status = Step(*engine, driven, selector, out);
    ASSERT_TRUE(status.ok()) << status;
    for (uint32_t head = 0; head < world_.model.query_heads; ++head) {
      std::vector<std::vector<std::byte>> rows;
      for (const uint32_t token : sets[head % world_.model.group()]) {
        rows.push_back(world_.Row(0, head / world_.model.group(), token, driven.ids[token]));
      }
      const size_t offset = size_t{head} * world_.model.head.head_dim;
      const std::vector<float> part(
          out.begin() + static_cast<ptrdiff_t>(offset),
          out.begin() + static_cast<ptrdiff_t>(offset) + world_.model.head.head_dim);
      ExpectNear(part,
                 world_.ReferenceHead(queries_.data() + offset, rows, engine->options().scale));
    }
  }
}

TEST_F(SelectorTest, AMalformedAnswerIsRefused) {
  const auto engine = Make(40);
  Driven driven = OpenWith(*engine, world_, RandomIds(random_, 100), random_);
  const std::vector<std::vector<std::vector<uint32_t>>> malformed = {
      {},
      {{5, 4}},
      {{4, 4}},
      {{3, 101}},
      std::vector<std::vector<uint32_t>>(world_.model.group() + 1, {1, 2}),
  };
  for (const auto& sets : malformed) {
    FixedSelector selector(sets);
    std::vector<float> out;
    EXPECT_EQ(Step(*engine, driven, selector, out).code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(driven.sequence->length(0), 100U);
  }
  FixedSelector sound({{3, 100}});
  std::vector<float> out;
  EXPECT_TRUE(Step(*engine, driven, sound, out).ok());
}

TEST_F(SelectorTest, RowsAreFetchedOnceAndCounted) {
  const auto engine = Make(40, /*hot_rows=*/100);
  Driven driven = OpenWith(*engine, world_, RandomIds(random_, 200), random_);
  const uint64_t heads = world_.model.kv_heads;
  FixedSelector selector({{1, 5, 9, 64, 100, 199, 200}});
  std::vector<float> out;
  ASSERT_TRUE(Step(*engine, driven, selector, out).ok());
  // Token 199 and 200 are in the tail, whose blocks begin at 192.
  EngineStats stats = engine->stats();
  EXPECT_EQ(stats.selected_rows, 5 * heads);
  EXPECT_EQ(stats.tail_rows, 2 * heads);
  EXPECT_EQ(stats.hot_rows, 0U);
  EXPECT_EQ(stats.fetched_rows, 5 * heads);
  EXPECT_EQ(stats.fetched_bytes, 5 * heads * world_.model.head.row_bytes());
  EXPECT_EQ(service_.calls["StartFetch"], 1U);

  ASSERT_TRUE(Step(*engine, driven, selector, out).ok());
  stats = engine->stats();
  EXPECT_EQ(stats.steps, 2U);
  EXPECT_EQ(stats.hot_rows, 5 * heads);
  EXPECT_EQ(stats.fetched_rows, 5 * heads);
  EXPECT_EQ(service_.calls["StartFetch"], 1U);
  EXPECT_EQ(service_.reported.selected_rows, stats.selected_rows);
  EXPECT_EQ(service_.reported.hot_rows, stats.hot_rows);
  EXPECT_EQ(service_.reported.full_attention_bytes, stats.full_attention_bytes);
  EXPECT_EQ(stats.full_attention_bytes, (201 + 202) * heads * world_.model.head.row_bytes());
  engine->ResetStats();
  EXPECT_EQ(engine->stats().steps, 0U);
}

TEST_F(SelectorTest, CutTokensLeaveNothingBehind) {
  const auto engine = Make(40, /*hot_rows=*/1000);
  Driven driven = OpenWith(*engine, world_, RandomIds(random_, 300), random_);
  std::vector<uint32_t> everything(301);
  std::iota(everything.begin(), everything.end(), 0U);
  FixedSelector selector({everything});
  std::vector<float> out;
  ASSERT_TRUE(Step(*engine, driven, selector, out).ok());
  ASSERT_TRUE(driven.sequence->Truncate(70).ok());
  driven.ids.resize(70);
  ASSERT_TRUE(driven.Prefill(*engine, world_, RandomIds(random_, 230), random_).ok());
  ASSERT_TRUE(Step(*engine, driven, selector, out).ok());
  std::vector<double> expected;
  for (uint32_t head = 0; head < world_.model.query_heads; ++head) {
    std::vector<std::vector<std::byte>> rows;
    for (uint64_t i = 0; i < 301; ++i) {
      rows.push_back(world_.Row(0, head / world_.model.group(), i, driven.ids[i]));
    }
    const auto part = world_.ReferenceHead(
        queries_.data() + size_t{head} * world_.model.head.head_dim, rows, engine->options().scale);
    expected.insert(expected.end(), part.begin(), part.end());
  }
  ExpectNear(out, expected);
}

TEST_F(EngineTest, AttachingMovesSlicesAndNoRows) {
  const auto engine = Make(40);
  const std::vector<uint32_t> ids = RandomIds(random_, 256);
  Driven first = OpenWith(*engine, world_, ids, random_);
  ASSERT_TRUE(engine->Flush(*first.sequence).ok());
  service_.calls.clear();
  const auto second = engine->Open(ids);
  ASSERT_TRUE(second.ok()) << second.status();
  // The prompt ends with a block; one token at least is left to compute.
  EXPECT_EQ((*second)->attached_tokens(), 192U);
  EXPECT_EQ((*second)->length(0), 192U);
  EXPECT_EQ((*second)->slices(0, 0)->tokens(), 192U);
  EXPECT_EQ(service_.calls["StartSlices"], world_.model.layers);
  EXPECT_EQ(service_.calls["StartFetch"] + service_.calls["StartRead"], 0U);
  EXPECT_EQ(service_.Stat((*second)->id())->committed_tokens, 192U);
  EXPECT_EQ(service_.Stat((*second)->id())->known_tokens, 256U);
}

TEST_F(EngineTest, StepsSendWholeBlocksOnly) {
  const auto engine = Make(40);
  Driven driven = OpenWith(*engine, world_, RandomIds(random_, 64), random_);
  service_.calls.clear();
  for (int step = 0; step < 129; ++step) {
    ASSERT_TRUE(StepTokens(*engine, world_, {&driven}, RandomIds(random_, 1)).ok());
  }
  EXPECT_EQ(service_.calls["Append"], 2 * world_.model.layers);
  EXPECT_LE(service_.calls["Flush"], 4U);
  ASSERT_TRUE(engine->Flush(*driven.sequence).ok());
  EXPECT_EQ(service_.Stat(driven.sequence->id())->committed_tokens, 193U);
}

TEST_F(EngineTest, NothingOfAPrefillStaysButSlicesAndTheTail) {
  const auto engine = Make(40);
  Driven driven = OpenWith(*engine, world_, RandomIds(random_, 3000), random_);
  const uint64_t row_bytes = world_.model.head.row_bytes();
  const uint64_t heads = uint64_t{world_.model.layers} * world_.model.kv_heads;
  EXPECT_EQ(driven.sequence->tail_bytes(), heads * 2 * 64 * row_bytes);
  EXPECT_EQ(driven.sequence->hot_row_bytes(), 0U);
  EXPECT_GE(driven.sequence->slice_bytes(), heads * 3000 * world_.profile->slice_bytes());
  ASSERT_TRUE(StepTokens(*engine, world_, {&driven}, {1}).ok());
  EXPECT_LE(driven.sequence->hot_row_bytes(), heads * (4 * 40 * (row_bytes + 64) + 4 * 3001));
}

TEST_F(EngineTest, ASequenceClosesUnlessSealedOrDetached) {
  const auto engine = Make(40);
  Driven closed = OpenWith(*engine, world_, RandomIds(random_, 70), random_);
  Driven sealed = OpenWith(*engine, world_, RandomIds(random_, 70), random_);
  Driven detached = OpenWith(*engine, world_, RandomIds(random_, 70), random_);
  EXPECT_EQ(service_.open_sequences(), 3U);
  ASSERT_TRUE(sealed.sequence->Seal().ok());
  EXPECT_EQ(service_.Stat(sealed.sequence->id())->committed_tokens, 70U);
  EXPECT_EQ(StepTokens(*engine, world_, {&sealed}, {1}).status().code(),
            StatusCode::kFailedPrecondition);
  // What is sealed can still be forked.
  auto child = engine->Fork(*sealed.sequence, 66);
  ASSERT_TRUE(child.ok()) << child.status();
  child->reset();
  detached.sequence->Detach();
  closed.sequence.reset();
  sealed.sequence.reset();
  detached.sequence.reset();
  EXPECT_EQ(service_.open_sequences(), 2U);
}

TEST_F(EngineTest, WrongCallsAreRefused) {
  const auto engine = Make(40);
  Driven driven = OpenWith(*engine, world_, RandomIds(random_, 70), random_);
  Driven other = OpenWith(*engine, world_, RandomIds(random_, 70), random_);
  const auto rows = world_.TokenRows(0, 70, 1);
  WorkerSequence& sequence = *driven.sequence;
  EXPECT_EQ(engine->AppendRows(sequence, 0, 69, 1, rows.data()).code(), StatusCode::kOutOfRange);
  EXPECT_EQ(engine->AppendRows(sequence, 0, 71, 1, rows.data()).code(), StatusCode::kOutOfRange);
  EXPECT_EQ(engine->AppendRows(sequence, world_.model.layers, 0, 1, rows.data()).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(engine->Fork(sequence, 71).status().code(), StatusCode::kOutOfRange);
  const auto twice = StepTokens(*engine, world_, {&driven, &other, &driven}, {1, 2, 3});
  EXPECT_EQ(twice.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(sequence.length(0), 70U);
  StepItem empty;
  EXPECT_EQ(engine->Step(0, {&empty, 1}).code(), StatusCode::kInvalidArgument);
  const auto stranger = Make(40);
  EXPECT_EQ(StepTokens(*stranger, world_, {&driven}, {1}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_TRUE(StepTokens(*engine, world_, {&driven, &other}, {1, 2}).ok());
}

TEST_F(EngineTest, OptionsThatCannotHoldAreRefused) {
  const auto code = [&](const ModelInfo& model, const EngineOptions& options) {
    return Engine::Create(&service_, model, world_.profile, options).status().code();
  };
  EngineOptions options;
  options.select = {.budget = 60, .sinks = 4, .recent = 64};
  EXPECT_EQ(code(world_.model, options), StatusCode::kInvalidArgument);
  options.select = {};
  options.hot_rows = 70'000;
  EXPECT_EQ(code(world_.model, options), StatusCode::kInvalidArgument);
  ModelInfo other = world_.model;
  other.fingerprint.weights = "another";
  EXPECT_EQ(code(other, {}), StatusCode::kFailedPrecondition);
  other = world_.model;
  other.layers += 1;
  EXPECT_EQ(code(other, {}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(world_.model, {}), StatusCode::kOk);
}

TEST_F(EngineTest, WithoutAProfileOnlyFullAttentionWorks) {
  EngineOptions options;
  options.select = {.budget = 40, .sinks = 2, .recent = 8};
  auto engine = Engine::Create(&service_, world_.model, nullptr, options);
  ASSERT_TRUE(engine.ok()) << engine.status();
  Driven driven = OpenWith(**engine, world_, RandomIds(random_, 200), random_);
  EXPECT_EQ(driven.sequence->slices(0, 0), nullptr);
  EXPECT_EQ(StepTokens(**engine, world_, {&driven}, {5}).status().code(),
            StatusCode::kFailedPrecondition);
  const auto outs = StepTokens(**engine, world_, {&driven}, {5}, /*full=*/true);
  ASSERT_TRUE(outs.ok()) << outs.status();
  ExpectNear((*outs)[0][0], world_.Reference(0, driven.ids, (*engine)->options().scale));
}

}  // namespace
}  // namespace passband::testing
