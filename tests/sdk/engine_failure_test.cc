// Goal: when any call to the service fails, the engine's call fails with that
// status and writes no output; the same call again gives the right result.
#include "gtest/gtest.h"
#include "tests/support/engine_world.h"

namespace passband::testing {
namespace {

// Fails the n-th call that can fail, once.
class OneFault {
 public:
  OneFault(MapKvService& service, uint64_t nth) : nth_(nth) {
    service.fault = [this](const std::string& call) -> Status {
      if (calls_++ != nth_) return OkStatus();
      struck_ = true;
      return Error(StatusCode::kUnavailable, "call {} ({}) was made to fail", nth_, call);
    };
  }
  bool struck() const { return struck_; }
  std::string message() const { return "call " + std::to_string(nth_) + " "; }

 private:
  uint64_t nth_;
  uint64_t calls_ = 0;
  bool struck_ = false;
};

// Runs calls, repeating one that fails by the fault; counts failures.
class Repeater {
 public:
  explicit Repeater(const OneFault& fault) : fault_(fault) {}

  template <typename Call>
  auto operator()(Call call) {
    const bool struck_before = fault_.struck();
    auto result = call();
    if (StatusOf(result).ok()) {
      EXPECT_EQ(fault_.struck(), struck_before) << "the failure was swallowed";
      return result;
    }
    ++failures_;
    EXPECT_EQ(StatusOf(result).code(), StatusCode::kUnavailable);
    EXPECT_EQ(Message(StatusOf(result)).rfind(fault_.message(), 0), 0U) << StatusOf(result);
    return call();
  }
  int failures() const { return failures_; }

 private:
  static const Status& StatusOf(const Status& status) { return status; }
  template <typename T>
  static Status StatusOf(const StatusOr<T>& value) {
    return value.status();
  }

  const OneFault& fault_;
  int failures_ = 0;
};

struct Scenario {
  explicit Scenario(uint64_t seed) : random(seed), world(random()) {
    options.select = {.budget = 40, .sinks = 2, .recent = 10};
    options.hot_rows = 50;
  }

  void Step(Repeater& repeat, Engine& engine, std::vector<Driven*> batch, bool full) {
    for (uint32_t layer = 0; layer < world.model.layers; ++layer) {
      std::vector<std::vector<std::byte>> rows;
      std::vector<std::vector<float>> queries;
      std::vector<std::vector<float>> outs(batch.size());
      const auto attempt = [&] {
        std::vector<StepItem> items;
        for (size_t i = 0; i < batch.size(); ++i) {
          const uint64_t position = batch[i]->sequence->length(layer);
          rows.push_back(world.TokenRows(layer, position, kId));
          queries.push_back(world.Queries(layer, position, kId));
          outs[i].assign(world.out_size(), kUntouched);
        }
        for (size_t i = 0; i < batch.size(); ++i) {
          items.push_back({.sequence = batch[i]->sequence.get(),
                           .queries = queries[queries.size() - batch.size() + i].data(),
                           .new_rows = rows[rows.size() - batch.size() + i].data(),
                           .out = outs[i].data()});
        }
        const Status status = full ? engine.StepFull(layer, items) : engine.Step(layer, items);
        for (size_t i = 0; i < batch.size() && !status.ok(); ++i) {
          EXPECT_EQ(outs[i], std::vector<float>(world.out_size(), kUntouched));
          EXPECT_EQ(batch[i]->sequence->length(layer), batch[i]->ids.size());
        }
        return status;
      };
      const Status status = repeat(attempt);
      ASSERT_TRUE(status.ok()) << status;
      for (size_t i = 0; i < batch.size(); ++i) {
        std::vector<uint32_t> ids = batch[i]->ids;
        ids.push_back(kId);
        if (full) {
          ExpectNear(outs[i], world.Reference(layer, ids, engine.options().scale));
        } else {
          EXPECT_EQ(outs[i], world.PlainStep(layer, ids, engine.options()));
        }
      }
    }
    for (Driven* driven : batch) driven->ids.push_back(kId);
  }

  static void ExpectNear(const std::vector<float>& out, const std::vector<double>& expected) {
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_NEAR(double{out[i]}, expected[i], 1e-4);
    }
  }

  void Prefill(Repeater& repeat, Engine& engine, Driven& driven,
               const std::vector<uint32_t>& more) {
    driven.ids.insert(driven.ids.end(), more.begin(), more.end());
    for (uint32_t layer = 0; layer < world.model.layers; ++layer) {
      const Status status = repeat([&] {
        // After a failure length() says how much was taken.
        const uint64_t first = driven.sequence->length(layer);
        const uint64_t left = driven.ids.size() - first;
        const auto rows = world.RangeRows(layer, driven.ids, first, left);
        return engine.AppendRows(*driven.sequence, layer, first, left, rows.data());
      });
      ASSERT_TRUE(status.ok()) << status;
    }
  }

  // False when it ended before the fault struck.
  bool Run(uint64_t nth) {
    MapKvService service;
    OneFault fault(service, nth);
    Repeater repeat(fault);
    auto engine =
        repeat([&] { return Engine::Create(&service, world.model, world.profile, options); });
    Driven first, second, child;
    const std::vector<uint32_t> prompt = RandomIds(random, 200);
    first.sequence = *repeat([&] { return (*engine)->Open(prompt); });
    Prefill(repeat, **engine, first, {prompt.begin(), prompt.begin() + 190});
    for (int i = 0; i < 6; ++i) Step(repeat, **engine, {&first}, i == 3);
    const Status flushed = repeat([&] { return (*engine)->Flush(*first.sequence); });
    EXPECT_TRUE(flushed.ok()) << flushed;

    const Status cut = repeat([&] { return first.sequence->Truncate(150); });
    EXPECT_TRUE(cut.ok()) << cut;
    first.ids.resize(150);
    child.sequence = *repeat([&] { return (*engine)->Fork(*first.sequence, 140); });
    child.ids.assign(first.ids.begin(), first.ids.begin() + 140);
    second.sequence = *repeat([&] { return (*engine)->Open(prompt); });
    second.ids.assign(prompt.begin(),
                      prompt.begin() + static_cast<ptrdiff_t>(second.sequence->attached_tokens()));
    Prefill(repeat, **engine, second, RandomIds(random, 70));
    for (int i = 0; i < 3; ++i) Step(repeat, **engine, {&first, &second, &child}, i == 1);
    const Status sealed = repeat([&] { return first.sequence->Seal(); });
    EXPECT_TRUE(sealed.ok()) << sealed;
    EXPECT_EQ(repeat.failures(), fault.struck() ? 1 : 0);
    service.fault = nullptr;
    return fault.struck();
  }

  static constexpr uint32_t kId = 77;
  static constexpr float kUntouched = -123456.0F;
  Random random;
  EngineWorld world;
  EngineOptions options;
};

TEST(EngineFailureTest, EveryFailedCallCanBeRepeated) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  uint64_t nth = 0;
  for (;; ++nth) {
    SCOPED_TRACE(::testing::Message() << "call " << nth);
    Scenario scenario(seed);
    if (!scenario.Run(nth) || ::testing::Test::HasFailure()) break;
  }
  EXPECT_GT(nth, 20U);
}

}  // namespace
}  // namespace passband::testing
