// Goal: help fits a terminal, whatever is in it.
#include "base/help_format.h"

#include <gtest/gtest.h>

#include <sstream>

namespace passband {
namespace {

TEST(WrapTextTest, BreaksAtSpacesOnly) {
  EXPECT_EQ(WrapText("one two three", 7), "one two\nthree");
  EXPECT_EQ(WrapText("one two three", 5), "one\ntwo\nthree");
  EXPECT_EQ(WrapText("one\ntwo three", 9), "one\ntwo three");
  EXPECT_EQ(WrapText("incompressible", 5), "incompressible");
  EXPECT_EQ(WrapText("", 5), "");
}

TEST(HelpFormatTest, LinesFitEightyColumns) {
  std::string words;
  for (int i = 0; i < 60; ++i) words += "word ";
  CLI::App app{words};
  UseHelpFormat(app);
  std::string value;
  app.add_option("--option", value, words);
  CLI::App* command = app.add_subcommand("command", words);
  command->add_option("--inner", value, words);
  for (const std::string& help : {app.help(), command->help()}) {
    std::istringstream lines(help);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80U) << line;
  }
}

}  // namespace
}  // namespace passband
