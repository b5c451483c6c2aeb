// Goal: task documents are what the reference model was trained on: exact in
// form and length, asked and scored inside the last 640 positions, and the same
// for the same seed.
#include "llama/tasks.h"

#include <gtest/gtest.h>

#include <random>
#include <regex>
#include <set>

#include "llama/task_words.h"
#include "llama/tokenizer.h"

namespace passband {
namespace {

// A text of made-up words, some frequent and some rare.
std::string MadeUpText(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::string> words;
  for (int i = 0; i < 1500; ++i) {
    std::string word;
    for (uint64_t letters = 3 + random() % 8; letters > 0; --letters) {
      word += static_cast<char>('a' + random() % 26);
    }
    words.push_back(word);
  }
  std::string text;
  while (text.size() < 120000) {
    text += words[std::min(random() % words.size(), random() % words.size())];
    text += random() % 12 == 0 ? "\n" : " ";
  }
  return text;
}

class TasksTest : public testing::Test {
 protected:
  void SetUp() override {
    auto maker = TaskMaker::Create(text_);
    ASSERT_TRUE(maker.ok()) << maker.status();
    maker_.emplace(*std::move(maker));
  }

  std::string TextOf(const TaskDocument& document, uint32_t first, uint32_t count) const {
    return DecodeBytes(std::span(document.tokens).subspan(first, count));
  }

  void ExpectAnswersInside(const TaskDocument& document) const {
    EXPECT_FALSE(document.answers.empty());
    for (const Answer& answer : document.answers) {
      EXPECT_GT(answer.first, document.first_scored());
      EXPECT_LE(answer.first + answer.count, document.tokens.size());
    }
  }

  const uint64_t seed_ = std::random_device{}();
  const testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  const std::string text_ = MadeUpText(seed_);
  std::optional<TaskMaker> maker_;
};

TEST_F(TasksTest, NeedleDocumentsStateEveryKeyOnceAndAskForSome) {
  for (const uint32_t keys : {1, 16, 64}) {
    const auto made = maker_->Needle({.context = 8192, .keys = keys}, seed_, keys);
    ASSERT_TRUE(made.ok()) << made.status();
    EXPECT_EQ(made->tokens.size(), 8193);
    EXPECT_EQ(made->answers.size(), std::min(keys, 8U));
    ExpectAnswersInside(*made);
    const std::string text = DecodeBytes(made->tokens);
    const std::regex statement("\nThe code for ([a-z]{4,9}) is ([0-9]{6})\\.\n");
    std::map<std::string, std::string> stated;
    for (std::sregex_iterator i(text.begin(), text.end(), statement), end; i != end; ++i) {
      EXPECT_TRUE(stated.emplace((*i)[1], (*i)[2]).second) << (*i)[1];
    }
    // Two statements at one place share a newline, which the expression skips.
    EXPECT_GE(stated.size() + 3, keys);
    EXPECT_LE(stated.size(), keys);
    for (const Answer& answer : made->answers) {
      const std::string cue =
          fmt::format("\nWhat is the code for {}? The code for {} is ", answer.word, answer.word);
      EXPECT_EQ(TextOf(*made, answer.cue, answer.first - answer.cue), cue);
      const std::string digits = TextOf(*made, answer.first, answer.count);
      EXPECT_NE(text.find(fmt::format("\nThe code for {} is {}.\n", answer.word, digits)),
                std::string::npos);
      EXPECT_GE(answer.cue, made->first_scored());
    }
    // The queries are one run up to a last newline.
    const std::string tail = text.substr(made->answers.front().cue);
    EXPECT_TRUE(std::regex_match(
        tail,
        std::regex("(\nWhat is the code for [a-z]+\\? The code for [a-z]+ is [0-9]{6}\\.)+\n")));
  }
}

TEST_F(TasksTest, NeedleQueriesAreAsManyAsFit) {
  const auto made = maker_->Needle({.context = 4096, .keys = 64, .queries = 64}, seed_, 0);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_GE(made->answers.size(), 9);
  EXPECT_LE(made->answers.size(), 12);
  EXPECT_GE(made->answers.front().cue, made->first_scored());
  std::set<std::string> asked;
  for (const Answer& answer : made->answers) asked.insert(answer.word);
  EXPECT_EQ(asked.size(), made->answers.size());
}

TEST_F(TasksTest, RecallQuotesTheBodyVerbatim) {
  const auto made = maker_->Recall(8192, seed_, 0);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->tokens.size(), 8193);
  ASSERT_EQ(made->answers.size(), 3);
  ExpectAnswersInside(*made);
  const uint32_t tail = made->answers.front().cue - 10;
  EXPECT_GE(tail, made->first_scored());
  const std::string body = TextOf(*made, 0, tail);
  for (const Answer& answer : made->answers) {
    EXPECT_EQ(answer.first, answer.cue + 40);
    EXPECT_EQ(answer.count, 100);
    EXPECT_EQ(TextOf(*made, answer.cue - 10, 10), "\nRecall: \"");
    EXPECT_EQ(TextOf(*made, answer.cue + 160, 2), "\"\n");
    EXPECT_NE(body.find(TextOf(*made, answer.cue, 160)), std::string::npos);
  }
}

TEST_F(TasksTest, BooksAreTheTextItself) {
  const auto made = maker_->Books(2000, seed_, 0);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->tokens.size(), 2001);
  EXPECT_NE(text_.find(DecodeBytes(made->tokens)), std::string::npos);
  ASSERT_EQ(made->answers.size(), 1);
  EXPECT_EQ(made->answers[0].first, 2000 - 640 + 1);
  EXPECT_EQ(made->answers[0].count, 640);
}

TEST_F(TasksTest, SeedAndIndexDecide) {
  for (const Task task : {Task::kNeedle, Task::kRecall, Task::kBooks}) {
    const auto tokens = [&](uint64_t seed, uint64_t index) {
      return maker_->Make(task, 3000, 8, seed, index)->tokens;
    };
    EXPECT_EQ(tokens(1, 2), tokens(1, 2));
    EXPECT_NE(tokens(1, 2), tokens(1, 3));
    EXPECT_NE(tokens(1, 2), tokens(2, 2));
    EXPECT_NE(tokens(1, 2), tokens(2, 1));
  }
}

TEST_F(TasksTest, TheDemoAsksEightOfSixteen) {
  const auto made = maker_->Demo(seed_);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->answers.size(), 8);
  EXPECT_EQ(made->tokens.size(), 7001);
}

TEST_F(TasksTest, RefusesWhatCannotBeMade) {
  EXPECT_FALSE(maker_->Needle({.context = 300, .keys = 16}, 1, 0).ok());
  EXPECT_FALSE(maker_->Needle({.keys = 0}, 1, 0).ok());
  EXPECT_FALSE(maker_->Needle({.keys = 1'000'000}, 1, 0).ok());
  EXPECT_FALSE(maker_->Recall(500, 1, 0).ok());
  EXPECT_FALSE(maker_->Books(1 << 20, 1, 0).ok());
  EXPECT_FALSE(TaskMaker::Create("").ok());
  EXPECT_EQ(TaskMaker::FromFile("/nowhere/at/all").status().code(), StatusCode::kNotFound);
}

// Logits that predict exactly the document, but for the tokens in `wrong`.
Logits Oracle(const TaskDocument& document, const std::set<uint32_t>& wrong) {
  Logits out;
  out.vocab_size = 256;
  out.values.assign(size_t{document.scored_positions()} * 256, 0.0F);
  for (uint32_t i = 0; i < document.scored_positions(); ++i) {
    const uint32_t token = document.first_scored() + i + 1;
    const uint32_t said = document.tokens[token] ^ (wrong.contains(token) ? 1 : 0);
    out.values[size_t{i} * 256 + said] = 50.0F;
  }
  return out;
}

TEST_F(TasksTest, NeedleScoreIsQueriesWithAllDigitsRight) {
  const auto made = maker_->Needle({.context = 4000, .keys = 8}, seed_, 0);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(Score(*made, Oracle(*made, {})).mean(), 1.0);
  const uint32_t a = made->answers[0].first;
  const uint32_t b = made->answers[3].first;
  EXPECT_EQ(Score(*made, Oracle(*made, {a, a + 5, b + 2})).mean(), 6.0 / 8);
  EXPECT_EQ(Score(*made, Oracle(*made, {a - 1, a + 6})).mean(), 1.0);
}

TEST_F(TasksTest, RecallScoreIsShareOfScoredBytes) {
  const auto made = maker_->Recall(4000, seed_, 0);
  ASSERT_TRUE(made.ok()) << made.status();
  const uint32_t cue = made->answers[1].cue;
  const TaskScore score = Score(*made, Oracle(*made, {cue + 39, cue + 40, cue + 139, cue + 140}));
  EXPECT_EQ(score.count, 300);
  EXPECT_EQ(score.sum, 298);
}

TEST_F(TasksTest, BooksScoreIsBitsPerByte) {
  const auto made = maker_->Books(2000, seed_, 0);
  ASSERT_TRUE(made.ok()) << made.status();
  Logits even;
  even.vocab_size = 256;
  even.values.assign(size_t{640} * 256, 3.0F);
  EXPECT_NEAR(Score(*made, even).mean(), 8.0, 1e-6);
  EXPECT_NEAR(Score(*made, Oracle(*made, {})).mean(), 0.0, 1e-6);
}

TEST(KeyWordsTest, AreFrequentLowerCaseWordsButNotTheMostFrequent) {
  std::string text;
  const char* words[] = {"often", "third", "rarer", "least"};
  for (int i = 0; i < 4; ++i) {
    for (int times = 0; times < 9 - i; ++times) text += std::string(words[i]) + " ";
  }
  text += "the Capital shor7 under_score enormously don't lasts\n";
  // Five candidates; the first quarter is left out.
  EXPECT_EQ(KeyWords(text), (std::vector<std::string>{"third", "rarer", "least", "lasts"}));
}

}  // namespace
}  // namespace passband
