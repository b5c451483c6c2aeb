// Goal: whatever was done to a sequence before (prefill in pieces, steps, forks,
// cuts, attaching to a prefix), a step gives bit for bit what the kernels give
// over plain arrays of the same tokens. Over the strict test double and over a
// real store.
#include <algorithm>

#include "base/thread.h"
#include "gtest/gtest.h"
#include "sdk/embedded/embedded_service.h"
#include "tests/support/engine_world.h"

namespace passband::testing {
namespace {

EngineOptions RandomOptions(Random& random) {
  EngineOptions options;
  options.select.sinks = Below(random, 5);
  options.select.recent = 1 + Below(random, 90);
  options.select.budget = options.select.sinks + options.select.recent + Below(random, 60);
  // From hardly any slots to more than a selection.
  options.hot_rows = 1 + Below(random, 3 * options.select.budget);
  return options;
}

class Walk {
 public:
  Walk(uint64_t seed, std::unique_ptr<KvService> service)
      : random_(seed),
        service_(std::move(service)),
        world_(random_()),
        engine_(world_.MakeEngine(*service_, RandomOptions(random_))) {
    Open(RandomIds(random_, Below(random_, 400)));
  }

  void Run(int operations) {
    for (int i = 0; i < operations && !::testing::Test::HasFailure(); ++i) Operate();
  }

 private:
  void Operate() {
    switch (Below(random_, 16)) {
      case 0:
        return Fork();
      case 1:
        return Truncate();
      case 2:
        return Attach();
      case 3: {
        const Status done = engine_->Flush(*Pick().sequence);
        ASSERT_TRUE(done.ok()) << done;
        return;
      }
      case 4: {
        const Status done =
            Pick().Prefill(*engine_, world_, RandomIds(random_, 1 + Below(random_, 150)), random_);
        ASSERT_TRUE(done.ok()) << done;
        return;
      }
      case 5:
        return DropOne();
      default:
        return Step();
    }
  }

  Driven& Pick() { return *driven_[Below(random_, static_cast<uint32_t>(driven_.size()))]; }

  void Open(const std::vector<uint32_t>& ids) {
    auto sequence = engine_->Open(ids);
    ASSERT_TRUE(sequence.ok()) << sequence.status();
    auto driven = std::make_unique<Driven>();
    driven->sequence = *std::move(sequence);
    const uint64_t attached = driven->sequence->attached_tokens();
    ASSERT_TRUE(ids.empty() ? attached == 0 : attached < ids.size());
    driven->ids.assign(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(attached));
    const std::vector<uint32_t> rest(ids.begin() + static_cast<ptrdiff_t>(attached), ids.end());
    if (!rest.empty()) {
      const Status done = driven->Prefill(*engine_, world_, rest, random_);
      ASSERT_TRUE(done.ok()) << done;
    }
    driven_.push_back(std::move(driven));
  }

  void Attach() {
    if (driven_.size() >= 6) return;
    std::vector<uint32_t> ids = Pick().ids;
    ids.resize(Below(random_, static_cast<uint32_t>(ids.size()) + 1));
    const std::vector<uint32_t> more = RandomIds(random_, Below(random_, 40));
    ids.insert(ids.end(), more.begin(), more.end());
    Open(ids);
  }

  void Fork() {
    if (driven_.size() >= 6) return;
    Driven& parent = Pick();
    const uint64_t tokens = Below(random_, static_cast<uint32_t>(parent.ids.size()) + 1);
    auto child = engine_->Fork(*parent.sequence, tokens);
    ASSERT_TRUE(child.ok()) << child.status();
    auto driven = std::make_unique<Driven>();
    driven->sequence = *std::move(child);
    driven->ids.assign(parent.ids.begin(), parent.ids.begin() + static_cast<ptrdiff_t>(tokens));
    driven_.push_back(std::move(driven));
  }

  void Truncate() {
    Driven& driven = Pick();
    const auto length = static_cast<uint32_t>(driven.ids.size());
    // Often a few tokens, as after a rejected guess.
    const uint32_t cut = Below(random_, 2) == 0 ? Below(random_, 6) : Below(random_, length + 1);
    const uint64_t tokens = length - std::min(cut, length);
    const Status done = driven.sequence->Truncate(tokens);
    ASSERT_TRUE(done.ok()) << done;
    driven.ids.resize(tokens);
    for (uint32_t layer = 0; layer < world_.model.layers; ++layer) {
      ASSERT_EQ(driven.sequence->length(layer), tokens);
    }
  }

  void DropOne() {
    if (driven_.size() > 1) driven_.erase(driven_.begin() + Below(random_, driven_.size()));
  }

  void Step() {
    std::vector<Driven*> batch;
    for (const auto& driven : driven_) {
      if (Below(random_, 2) == 0) batch.push_back(driven.get());
    }
    if (batch.empty()) batch.push_back(driven_[0].get());
    std::shuffle(batch.begin(), batch.end(), random_);
    const auto outs = StepTokens(*engine_, world_, batch, RandomIds(random_, batch.size()));
    ASSERT_TRUE(outs.ok()) << outs.status();
    for (uint32_t layer = 0; layer < world_.model.layers; ++layer) {
      for (size_t i = 0; i < batch.size(); ++i) {
        ASSERT_EQ((*outs)[layer][i], world_.PlainStep(layer, batch[i]->ids, engine_->options()))
            << "layer " << layer << ", context " << batch[i]->ids.size();
      }
    }
  }

  Random random_;
  std::unique_ptr<KvService> service_;
  EngineWorld world_;
  std::unique_ptr<Engine> engine_;
  std::vector<std::unique_ptr<Driven>> driven_;
};

using ServiceMaker = std::unique_ptr<KvService> (*)();

void RunWalks(ServiceMaker make_service) {
  for (int round = 0; round < 20; ++round) {
    const uint64_t seed = std::random_device{}();
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Walk walk(seed, make_service());
    walk.Run(60);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(EngineWalkTest, EveryStepEqualsThePlainKernelsOverTheTestDouble) {
  RunWalks([]() -> std::unique_ptr<KvService> { return std::make_unique<MapKvService>(); });
}

TEST(EngineWalkTest, EveryStepEqualsThePlainKernelsOverAStore) {
  RunWalks([] {
    auto service = EmbeddedService::Create(uint64_t{256} << 20);
    EXPECT_TRUE(service.ok()) << service.status();
    return *std::move(service);
  });
}

TEST(EngineWalkTest, ThreadsWithTheirOwnSequencesShareAnEngine) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  Random random(seed);
  const EngineWorld world(random());
  auto service = EmbeddedService::Create(uint64_t{256} << 20);
  ASSERT_TRUE(service.ok()) << service.status();
  const auto engine = world.MakeEngine(**service, RandomOptions(random));
  constexpr int kThreads = 3;
  constexpr int kSteps = 60;
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.push_back(StartThread("stepper", [&, own_seed = random()](std::stop_token) {
      Random own(own_seed);
      Driven driven;
      driven.sequence = *engine->Open({});
      ASSERT_TRUE(driven.Prefill(*engine, world, RandomIds(own, 150), own).ok());
      for (int step = 0; step < kSteps; ++step) {
        const auto outs = StepTokens(*engine, world, {&driven}, RandomIds(own, 1));
        ASSERT_TRUE(outs.ok()) << outs.status();
        for (uint32_t layer = 0; layer < world.model.layers; ++layer) {
          ASSERT_EQ((*outs)[layer][0], world.PlainStep(layer, driven.ids, engine->options()));
        }
      }
    }));
  }
  threads.clear();
  EXPECT_EQ(engine->stats().steps, uint64_t{kThreads} * kSteps * world.model.layers);
}

}  // namespace
}  // namespace passband::testing
