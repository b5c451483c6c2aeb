// Goal: what programs print is aligned, colourless without a terminal, and a log
// shows progress rarely.
#include <gmock/gmock.h>

#include <cstdio>
#include <memory>
#include <string>

#include "services/console/progress.h"
#include "services/console/table.h"

namespace passband {
namespace {

using ::testing::HasSubstr;

TEST(Table, AlignsByDisplayWidth) {
  Table table({{"name"}, {"n", Align::kRight}});
  table.AddRow({"é✓", "7"});
  table.AddRow({"longer", "1,000"});
  EXPECT_EQ(table.Text(Terminal()),
            "name        n\n"
            "é✓          7\n"
            "longer  1,000\n");
}

TEST(Table, WithoutHeadingsHasNoHeadingLine) {
  Table table({{""}, {""}});
  table.AddRow({"a"});
  EXPECT_EQ(table.Text(Terminal(), 2), "  a\n");
}

TEST(Terminal, StylesTakeNoWidth) {
  Terminal colourful;
  colourful.colours = true;
  EXPECT_EQ(DisplayWidth(colourful.Bold("abc")), 3U);
  EXPECT_NE(colourful.Red("x"), "x");
  EXPECT_EQ(Terminal().Red("x"), "x");
}

class ManualClock final : public Clock {
 public:
  Time Now() const override { return now; }
  Time now{};
};

class LogFile {
 public:
  LogFile() : file_(std::tmpfile(), &std::fclose) {}
  std::FILE* get() const { return file_.get(); }
  std::string Text() const {
    std::string text(static_cast<size_t>(std::ftell(get())), '\0');
    std::rewind(get());
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), get()), text.size());
    return text;
  }

 private:
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

TEST(Progress, WritesALineEveryTenSecondsOffATerminal) {
  LogFile log;
  ManualClock clock;
  Progress progress("reading", 1000, "rows", {.stream = log.get(), .clock = &clock});
  for (int second = 1; second <= 25; ++second) {
    clock.now += std::chrono::seconds(1);
    progress.Advance(20);
  }
  progress.Finish();
  const std::string text = log.Text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_THAT(text, HasSubstr("20%  200 / 1,000 rows  20.0/s  40 s left"));
  EXPECT_EQ(text.find('\033'), std::string::npos);
}

TEST(Progress, SaysNothingWhenQuietOrFast) {
  LogFile log;
  ManualClock clock;
  {
    Progress quiet("a", 10, "b", {.stream = log.get(), .clock = &clock, .quiet = true});
    clock.now += std::chrono::minutes(1);
    quiet.Advance(5);
    Progress fast("c", 10, "d", {.stream = log.get(), .clock = &clock});
    fast.Advance(10);
  }
  EXPECT_EQ(log.Text(), "");
}

}  // namespace
}  // namespace passband
