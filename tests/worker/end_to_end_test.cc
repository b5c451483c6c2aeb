// Goal: on the real checkpoint, decoding against the store equals the model's own
// full attention wherever selection takes everything, prefixes and batches change
// nothing, and the evaluation's numbers fit together.
#include <gmock/gmock.h>

#include <atomic>

#include "llama/local_attention.h"
#include "services/worker/eval/evaluation.h"
#include "services/worker/generation.h"
#include "tests/worker/books_world.h"

namespace passband {
namespace {

using testing::BooksWorld;
using testing::RandomProfile;

// Looser than float rounding of one layer: rows are bf16, so an activation that
// rounds the other way moves later layers a little.
constexpr float kLogitSlack = 0.05F;
constexpr uint32_t kEverything = 4096;

class EndToEnd : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { world_ = std::make_unique<BooksWorld>(); }
  static void TearDownTestSuite() { world_.reset(); }

  struct Output {
    std::vector<std::vector<uint32_t>> tokens;
    std::vector<std::string> texts;
    std::vector<uint64_t> attached;
    std::vector<FinishReason> finish;
    EngineStats stats;
    uint64_t peak_layer_bytes = 0;
  };

  static Output Generate(Engine& engine, const std::vector<std::vector<uint32_t>>& prompts,
                         Generation::Settings settings) {
    Generation generation(*world_->model, engine, std::move(settings));
    const auto quiet = [](size_t, const std::string&) {};
    for (const auto& prompt : prompts) {
      const Status added = generation.Add(prompt);
      EXPECT_TRUE(added.ok()) << added;
    }
    const Status prefilled = generation.Prefill(quiet);
    EXPECT_TRUE(prefilled.ok()) << prefilled;
    engine.ResetStats();
    while (!generation.finished()) {
      const Status stepped = generation.Step(quiet);
      EXPECT_TRUE(stepped.ok()) << stepped;
      if (!stepped.ok()) break;
    }
    Output output;
    for (size_t i = 0; i < generation.streams().size(); ++i) {
      const auto& stream = generation.streams()[i];
      output.tokens.push_back(stream.tokens);
      output.texts.push_back(stream.text);
      output.attached.push_back(stream.attached);
      output.finish.push_back(stream.finish);
      const Status flushed = generation.host().Flush(i);
      EXPECT_TRUE(flushed.ok()) << flushed;
    }
    output.stats = engine.stats();
    output.peak_layer_bytes = generation.Report().peak_layer_bytes;
    return output;
  }

  static std::unique_ptr<BooksWorld> world_;
};

std::unique_ptr<BooksWorld> EndToEnd::world_;

Generation::Settings Greedy(uint32_t tokens, bool full = false) {
  Generation::Settings settings;
  settings.max_tokens = tokens;
  settings.full = full;
  return settings;
}

// Logits of a prompt, and of each of `more` tokens after it.
std::vector<std::vector<float>> Teach(const LlamaModel& model, AttentionBackend& backend,
                                      const std::vector<uint32_t>& prompt,
                                      const std::vector<uint32_t>& more) {
  std::vector<std::vector<float>> logits;
  const auto feed = [&](std::span<const uint32_t> tokens, uint64_t first) {
    const BatchItem item{tokens, first, 7, 1};
    const auto result = model.Forward(std::span(&item, 1), backend);
    ASSERT_TRUE(result.ok()) << result.status();
    logits.push_back(result->values);
  };
  feed(prompt, 0);
  for (size_t i = 0; i < more.size(); ++i) {
    feed(std::span(more).subspan(i, 1), prompt.size() + i);
  }
  return logits;
}

TEST_F(EndToEnd, EqualsTheModelsOwnAttention) {
  const auto prompt = world_->Tokens(1000, 333);
  const auto more = world_->Tokens(1333, 12);
  LocalAttention local(world_->model->config(), world_->model->pool());
  const auto want = Teach(*world_->model, local, prompt, more);
  const auto engine = world_->MakeEngine(kEverything, RandomProfile(*world_->model, 5));
  for (const bool full : {true, false}) {
    auto sequence = engine->Open(prompt, false);
    ASSERT_TRUE(sequence.ok()) << sequence.status();
    EngineAttention attention(*engine, world_->model->pool(), {.full = full});
    attention.Add(7, **sequence, prompt.size());
    const auto got = Teach(*world_->model, attention, prompt, more);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      for (size_t v = 0; v < want[i].size(); ++v) {
        ASSERT_NEAR(got[i][v], want[i][v], kLogitSlack) << "full " << full << " position " << i;
      }
    }
  }
}

TEST_F(EndToEnd, FasaThatTakesEverythingSaysWhatFullAttentionSays) {
  const auto prompt = world_->Tokens(20000, 700);
  const auto engine = world_->MakeEngine(kEverything, RandomProfile(*world_->model, 6));
  const Output full = Generate(*engine, {prompt}, Greedy(60, true));
  const Output fasa = Generate(*engine, {prompt}, Greedy(60));
  EXPECT_EQ(full.tokens, fasa.tokens);
  EXPECT_EQ(full.tokens[0].size(), 60U);
  EXPECT_EQ(full.finish[0], FinishReason::kLength);
}

TEST_F(EndToEnd, TheWorkerHoldsOneLayerOfThePromptAtMost) {
  const auto prompt = world_->Tokens(30000, 512);
  const auto engine = world_->MakeEngine(128, RandomProfile(*world_->model, 7));
  const Output output = Generate(*engine, {prompt}, Greedy(8));
  EXPECT_EQ(output.peak_layer_bytes, 512U * 2 * 512);
  EXPECT_LT(output.stats.fetched_bytes, output.stats.full_attention_bytes);
  EXPECT_EQ(output.stats.selected_rows, output.stats.hot_rows + output.stats.fetched_rows);
}

TEST_F(EndToEnd, AnAttachedPrefixChangesNothing) {
  const auto prompt = world_->Tokens(40000, 700);
  world_->service = BooksWorld::NewService();
  const auto engine = world_->MakeEngine(kEverything, RandomProfile(*world_->model, 8));
  const Output cold = Generate(*engine, {prompt}, Greedy(24));
  EXPECT_EQ(cold.attached[0], 0U);
  const Output exact = Generate(*engine, {prompt}, Greedy(24));
  EXPECT_EQ(exact.attached[0], 640U);
  EXPECT_EQ(exact.tokens, cold.tokens);
  Generation::Settings sparse = Greedy(24);
  sparse.sparse_suffix = true;
  const Output walked = Generate(*engine, {prompt}, sparse);
  EXPECT_EQ(walked.attached[0], 640U);
  EXPECT_EQ(walked.tokens, cold.tokens);
}

TEST_F(EndToEnd, ABatchSaysWhatItsSequencesSayAlone) {
  const auto engine = world_->MakeEngine(128, RandomProfile(*world_->model, 9));
  const std::vector<std::vector<uint32_t>> prompts = {
      world_->Tokens(50000, 300), world_->Tokens(60000, 191), world_->Tokens(70000, 1)};
  Generation::Settings settings = Greedy(20);
  settings.share_prefix = false;
  const Output batch = Generate(*engine, prompts, settings);
  for (size_t i = 0; i < prompts.size(); ++i) {
    const Output alone = Generate(*engine, {prompts[i]}, settings);
    EXPECT_EQ(alone.tokens[0], batch.tokens[i]) << "prompt " << i;
  }
}

TEST_F(EndToEnd, SamplingFollowsItsSeed) {
  const auto prompt = world_->Tokens(80000, 200);
  const auto engine = world_->MakeEngine(128, RandomProfile(*world_->model, 10));
  Generation::Settings settings = Greedy(40);
  settings.sampling.temperature = 1;
  settings.sampling.seed = 11;
  const Output once = Generate(*engine, {prompt}, settings);
  const Output again = Generate(*engine, {prompt}, settings);
  EXPECT_EQ(once.tokens, again.tokens);
  settings.sampling.seed = 12;
  EXPECT_NE(Generate(*engine, {prompt}, settings).tokens, once.tokens);
}

TEST_F(EndToEnd, AStopStringEndsTheTextBeforeIt) {
  const auto prompt = world_->Tokens(20000, 700);
  const auto engine = world_->MakeEngine(kEverything, RandomProfile(*world_->model, 6));
  const std::string whole = Generate(*engine, {prompt}, Greedy(60)).texts[0];
  Generation::Settings settings = Greedy(60);
  settings.stops = {"never said", whole.substr(20, 5)};
  const Output stopped = Generate(*engine, {prompt}, settings);
  EXPECT_EQ(stopped.texts[0], whole.substr(0, whole.find(settings.stops[1])));
  EXPECT_EQ(stopped.finish[0], FinishReason::kStop);
}

TEST_F(EndToEnd, AnEmptyPromptIsRefused) {
  const auto engine = world_->MakeEngine(128, RandomProfile(*world_->model, 9));
  Generation generation(*world_->model, *engine, Greedy(1));
  EXPECT_EQ(generation.Add({}).code(), StatusCode::kInvalidArgument);
}

EvalSettings ShortEval(const LlamaModel& model) {
  EvalSettings settings;
  settings.tasks = {Task::kNeedle};
  settings.methods = {Method::kFull, Method::kOracle, Method::kFasa, Method::kStream,
                      Method::kQuest};
  settings.profiles = {{"random", RandomProfile(model, 1)}};
  settings.context = 1000;  // the prefix, 360 tokens, is no multiple of a block
  settings.documents = 1;
  settings.keys = 4;
  return settings;
}

std::vector<EvalResult> Evaluate(BooksWorld& world, const EvalSettings& settings, int threads) {
  const auto maker = TaskMaker::Create(world.text);
  EXPECT_TRUE(maker.ok()) << maker.status();
  auto plan = MakePlan(settings);
  EXPECT_TRUE(plan.ok()) << plan.status();
  EvalRunner runner(*world.model, *world.service, *maker, settings, *std::move(plan));
  std::atomic<uint64_t> steps = 0;
  auto results = runner.Run(threads, [&](uint64_t count) { steps += count; });
  EXPECT_TRUE(results.ok()) << results.status();
  EXPECT_EQ(steps, runner.total_steps());
  return results.ok() ? *std::move(results) : std::vector<EvalResult>();
}

TEST_F(EndToEnd, EveryMethodThatTakesEverythingScoresTheSame) {
  EvalSettings settings = ShortEval(*world_->model);
  settings.budgets = {1024};
  const auto results = Evaluate(*world_, settings, 2);
  ASSERT_EQ(results.size(), 5U);
  for (const EvalResult& result : results) {
    SCOPED_TRACE(result.combination.Label());
    EXPECT_EQ(result.tokens, kScoredPositions);
    EXPECT_EQ(result.score.mean(), results[0].score.mean());
    EXPECT_NEAR(result.bits.mean(), results[0].bits.mean(), 2e-3);
    EXPECT_NEAR(result.probe.mean_mass(), 1, 1e-4);
    EXPECT_EQ(result.engine.full_attention_bytes, results[0].engine.full_attention_bytes);
  }
}

TEST_F(EndToEnd, SparseNumbersFitTogether) {
  EvalSettings settings = ShortEval(*world_->model);
  settings.budgets = {128};
  const auto results = Evaluate(*world_, settings, 2);
  ASSERT_EQ(results.size(), 5U);
  const EvalResult& oracle = results[1];
  EXPECT_EQ(oracle.probe.mean_recall(), 1);
  // Rows of two kv heads in six layers at every position from 360 to 1000.
  uint64_t full_rows = 0;
  for (uint64_t position = 360; position < 1000; ++position) full_rows += (position + 1) * 12;
  for (const EvalResult& result : results) {
    SCOPED_TRACE(result.combination.Label());
    EXPECT_EQ(result.engine.full_attention_bytes, full_rows * 512);
    EXPECT_EQ(result.engine.fetched_bytes, result.engine.fetched_rows * 512);
    if (result.combination.method == Method::kFull) continue;
    EXPECT_EQ(result.engine.selected_rows, result.engine.hot_rows + result.engine.fetched_rows);
    EXPECT_LE(result.engine.selected_rows + result.engine.tail_rows, 128U * 12 * 640);
    EXPECT_GT(result.engine.selected_rows + result.engine.tail_rows, 112U * 12 * 640);
    EXPECT_LT(result.probe.mean_mass(), 1);
    EXPECT_GT(result.probe.mean_mass(), 0.3);
    EXPECT_LE(result.probe.mean_mass(), oracle.probe.mean_mass() + 1e-3);
  }
}

TEST_F(EndToEnd, NumbersDoNotDependOnTheThreads) {
  EvalSettings settings = ShortEval(*world_->model);
  settings.tasks = {Task::kBooks};
  settings.methods = {Method::kFasa, Method::kStream};
  settings.budgets = {128};
  settings.documents = 3;
  settings.context = 704;
  const auto one = Evaluate(*world_, settings, 1);
  const auto three = Evaluate(*world_, settings, 3);
  ASSERT_EQ(one.size(), three.size());
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].score.sum, three[i].score.sum);
    EXPECT_EQ(one[i].bits.sum, three[i].bits.sum);
    EXPECT_EQ(one[i].probe.mass, three[i].probe.mass);
    EXPECT_EQ(one[i].engine.fetched_rows, three[i].engine.fetched_rows);
  }
}

}  // namespace
}  // namespace passband
