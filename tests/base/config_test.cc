// Goal: a flag beats the environment, which beats the file, which beats the
// default; and every fault of a file is named at once.
#include "base/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <fstream>

#include "tests/support/temp_folder.h"

namespace passband {
namespace {

using ::testing::HasSubstr;

class ConfigTest : public ::testing::Test {
 protected:
  ConfigTest() {
    AddConfigFlag(app_);
    app_.add_option("--port", port_)->envname("PASSBAND_TEST_PORT")->check(CLI::Range(0, 65535));
    app_.add_option("--name", name_);
  }
  ~ConfigTest() override { unsetenv("PASSBAND_TEST_PORT"); }

  void WriteFile(const std::string& text) { std::ofstream(path_) << text; }

  Status Load(std::vector<std::string> flags = {}) {
    flags.insert(flags.begin(), "--config=" + path_);
    std::vector<const char*> argv = {"program"};
    for (const std::string& flag : flags) argv.push_back(flag.c_str());
    return LoadConfig(app_, static_cast<int>(argv.size()), argv.data());
  }

  CLI::App app_{"test"};
  int port_ = 1;
  std::string name_ = "default";
  const test::TempFolder folder_;
  const std::string path_ = folder_ / "config.yaml";
};

TEST_F(ConfigTest, FileBeatsDefault) {
  WriteFile("port: 2\n");
  ASSERT_TRUE(Load().ok());
  EXPECT_EQ(port_, 2);
  EXPECT_EQ(name_, "default");
}

TEST_F(ConfigTest, EnvironmentBeatsFile) {
  WriteFile("port: 2\nname: from file\n");
  setenv("PASSBAND_TEST_PORT", "3", 1);
  ASSERT_TRUE(Load().ok());
  EXPECT_EQ(port_, 3);
  EXPECT_EQ(name_, "from file");
}

TEST_F(ConfigTest, FlagBeatsEnvironment) {
  WriteFile("port: 2\n");
  setenv("PASSBAND_TEST_PORT", "3", 1);
  ASSERT_TRUE(Load({"--port=4"}).ok());
  EXPECT_EQ(port_, 4);
}

TEST_F(ConfigTest, EveryFaultIsNamedWithItsLine) {
  WriteFile("prot: 2\nname: x\nport: banana\n");
  const Status status = Load();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(status), HasSubstr(":1: unknown key 'prot'; did you mean 'port'?"));
  EXPECT_THAT(Message(status), HasSubstr(":3: key 'port'"));
}

TEST_F(ConfigTest, FilesThatAreNoSettingsAreRefused) {
  WriteFile("- a\n- b\n");
  EXPECT_EQ(Load().code(), StatusCode::kInvalidArgument);
  WriteFile("port: [1, 2]\n");
  EXPECT_EQ(Load().code(), StatusCode::kInvalidArgument);
  WriteFile("? [a, b]\n: 2\n");
  EXPECT_EQ(Load().code(), StatusCode::kInvalidArgument);
  WriteFile("port: {\n");
  EXPECT_THAT(Message(Load()), HasSubstr(path_));
  EXPECT_THAT(Message(Load({"--config=/nonexistent/x.yaml"})), HasSubstr(path_));
}

TEST_F(ConfigTest, AnAbsentFileIsAnError) {
  const std::array<const char*, 3> argv = {"program", "--config", "/nonexistent/x.yaml"};
  EXPECT_THAT(Message(LoadConfig(app_, 3, argv.data())), HasSubstr("/nonexistent/x.yaml"));
}

TEST_F(ConfigTest, AKeyReachesTheSubcommandsThatHaveIt) {
  std::array<std::string, 2> servers;
  CLI::App* first = app_.add_subcommand("first", "");
  CLI::App* second = app_.add_subcommand("second", "");
  first->add_option("--server", servers[0]);
  second->add_option("--server", servers[1]);
  WriteFile("server: here:1\nname: x\n");
  ASSERT_TRUE(Load({"second"}).ok());
  EXPECT_EQ(servers[1], "here:1");
  EXPECT_EQ(name_, "x");
  WriteFile("servre: here:1\n");
  EXPECT_THAT(Message(Load({"second"})), HasSubstr("did you mean 'server'?"));
}

TEST_F(ConfigTest, TheFilesEnvironmentNameIsTheProgramsChoice) {
  CLI::App app{"other"};
  AddConfigFlag(app, "PASSBAND_TEST_CONFIG");
  app.add_option("--port", port_);
  WriteFile("port: 7\n");
  setenv("PASSBAND_TEST_CONFIG", path_.c_str(), 1);
  const std::array<const char*, 1> argv = {"program"};
  const Status loaded = LoadConfig(app, 1, argv.data());
  unsetenv("PASSBAND_TEST_CONFIG");
  ASSERT_TRUE(loaded.ok()) << loaded;
  EXPECT_EQ(port_, 7);
}

TEST_F(ConfigTest, AnEmptyFileChangesNothing) {
  WriteFile("");
  ASSERT_TRUE(Load().ok());
  EXPECT_EQ(port_, 1);
}

}  // namespace
}  // namespace passband
