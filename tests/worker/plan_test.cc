// Goal: an evaluation compares every sensible combination once, says no to those
// that make no sense, and does its arithmetic on counters right.
#include "services/worker/eval/plan.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "services/worker/eval/evaluation.h"
#include "services/worker/eval/report.h"

namespace passband {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Labels(const std::vector<Combination>& plan) {
  std::vector<std::string> labels;
  for (const Combination& combination : plan) labels.push_back(combination.Label());
  return labels;
}

EvalSettings Settings(std::vector<Method> methods, std::vector<uint32_t> budgets) {
  EvalSettings settings;
  settings.methods = std::move(methods);
  settings.budgets = std::move(budgets);
  return settings;
}

TEST(Plan, CombinesMethodsProfilesAndBudgets) {
  EvalSettings settings = Settings({Method::kFull, Method::kFasa, Method::kQuest}, {128, 256});
  settings.profiles = {{"a", nullptr}, {"b", nullptr}};
  const auto plan = MakePlan(settings);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(Labels(*plan), ElementsAre("full", "fasa a 128", "fasa a 256", "fasa b 128",
                                         "fasa b 256", "quest 128", "quest 256"));
  EXPECT_EQ((*plan)[1].select.budget, 128U);
  EXPECT_EQ((*plan)[1].select.sinks, 4U);
  EXPECT_EQ((*plan)[1].select.recent, 64U);
}

TEST(Plan, RefusesABudgetThatDoesNotHoldWhatIsForced) {
  const auto plan = MakePlan(Settings({Method::kStream}, {256, 67}));
  EXPECT_EQ(plan.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(plan.status()), HasSubstr("budget 67"));
  EXPECT_TRUE(MakePlan(Settings({Method::kStream}, {68})).ok());
}

TEST(Plan, RefusesAQuestBudgetBelowOnePage) {
  EvalSettings settings = Settings({Method::kQuest}, {15});
  settings.sinks = settings.recent = 0;
  EXPECT_FALSE(MakePlan(settings).ok());
  settings.budgets = {16};
  EXPECT_TRUE(MakePlan(settings).ok());
}

TEST(Plan, FasaNeedsAProfile) {
  EXPECT_THAT(Message(MakePlan(Settings({Method::kFasa}, {256})).status()), HasSubstr("profile"));
}

TEST(Plan, MethodsHaveNames) {
  for (const char* name : {"full", "oracle", "fasa", "stream", "quest"}) {
    const auto method = ParseMethod(name);
    ASSERT_TRUE(method.ok());
    EXPECT_STREQ(MethodName(*method), name);
  }
  EXPECT_FALSE(ParseMethod("flash").ok());
}

EvalResult Result() {
  EvalResult result;
  result.task = Task::kNeedle;
  result.combination.method = Method::kStream;
  result.combination.select = {256, 4, 64};
  result.score = {7, 8};
  result.bits = {15, 10};
  result.probe = {.mass = 9, .masses = 10, .recall = 1, .recalls = 4};
  result.engine.selected_rows = 1000;
  result.engine.hot_rows = 900;
  result.engine.fetched_rows = 100;
  result.engine.fetched_bytes = 51200;
  result.engine.tail_rows = 500;
  result.engine.full_attention_bytes = 512000;
  result.tokens = 10;
  return result;
}

TEST(Report, JsonHoldsWhatWasMeasured) {
  const auto json = nlohmann::json::parse(EvalJson({.model = "m",
                                                    .fingerprint = "f",
                                                    .transport = "t",
                                                    .text_file = "x",
                                                    .row_bytes = 512,
                                                    .prefill_seconds = 1,
                                                    .total_seconds = 2},
                                                   EvalSettings(), {Result()}));
  EXPECT_EQ(json["schema"], "passband.eval/v1");
  EXPECT_EQ(json["settings"]["scored_positions"], 640);
  const auto& result = json["results"][0];
  EXPECT_EQ(result["method"], "stream");
  EXPECT_DOUBLE_EQ(result["score"], 0.875);
  EXPECT_DOUBLE_EQ(result["bits_per_byte"], 1.5);
  EXPECT_DOUBLE_EQ(result["attention_mass"], 0.9);
  EXPECT_DOUBLE_EQ(result["top_k_recall"], 0.25);
  EXPECT_EQ(result["rows_selected"], 1500);
  EXPECT_EQ(result["rows_fetched"], 100);
  EXPECT_EQ(result["bytes_fetched"], 51200);
  EXPECT_EQ(result["bytes_without_hot_rows"], 512000);
  EXPECT_EQ(result["bytes_full_attention"], 512000);
  EXPECT_DOUBLE_EQ(result["hot_row_hit_rate"], 0.9);
  EXPECT_DOUBLE_EQ(result["share_of_full_attention"], 0.1);
}

TEST(Report, TableShowsEveryResult) {
  const std::string table =
      EvalTable({.model = "books"}, EvalSettings(), {Result(), Result()}, Terminal());
  EXPECT_THAT(table, HasSubstr("needle"));
  EXPECT_THAT(table, HasSubstr("0.875"));
  EXPECT_THAT(table, HasSubstr("90.00%"));
  EXPECT_THAT(table, HasSubstr("10.000%"));
  EXPECT_EQ(table.find('\033'), std::string::npos) << "colours without a terminal";
}

}  // namespace
}  // namespace passband
