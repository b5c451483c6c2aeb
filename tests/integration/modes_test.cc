// Goal: one process with a store of its own, and two over shared memory or TCP, generate the same
// tokens from the reference model, sparsely and with full attention.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/program.h"
#include "tests/support/server_process.h"
#include "tests/support/temp_folder.h"

namespace passband {
namespace {

using Json = nlohmann::json;

const std::string kModel = PASSBAND_SOURCE "/models/books-13m";

class ModesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ifstream book(kModel + "/held-out.txt", std::ios::binary);
    std::string prompt(1500, '\0');
    book.seekg(20'000);
    ASSERT_TRUE(book.read(prompt.data(), static_cast<std::streamsize>(prompt.size())));
    std::ofstream(folder_ / "prompt.txt", std::ios::binary) << prompt;
  }

  Json Generate(const std::string& method, const std::string& where) const {
    const test::Outcome outcome =
        test::Program(PASSBAND_BIN "/passband-worker generate --json --max-tokens 64 --model " +
                      kModel + " --prompt-file " + folder_ / "prompt.txt" + " --method " + method +
                      " " + where + " 2>/dev/null")
            .Finish();
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    Json json = Json::parse(outcome.output, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << outcome.output;
    return json;
  }

  // `transport`: for the server's --transports, and what the worker must say it used.
  void ExpectTheEmbeddedTokens(const std::string& transports, const std::string& transport) const {
    auto server =
        test::ServerProcess::Start({.binary = PASSBAND_BIN "/passband-server",
                                    .flags = {"--ram", "128MiB", "--transports", transports}});
    ASSERT_TRUE(server.ok()) << server.status();
    for (const std::string method : {"fasa", "full"}) {
      const Json here = Generate(method, "--embedded 128MiB");
      const Json there = Generate(method, "--server " + (*server)->control_address());
      EXPECT_EQ(here["transport"], "embedded");
      EXPECT_EQ(there["transport"], transport);
      EXPECT_EQ(here["outputs"][0]["tokens"].size(), 64U);
      EXPECT_EQ(here["outputs"][0]["tokens"], there["outputs"][0]["tokens"]) << method;
    }
  }

  const test::TempFolder folder_;
};

TEST_F(ModesTest, SharedMemoryGivesTheEmbeddedTokens) { ExpectTheEmbeddedTokens("auto", "shm"); }

TEST_F(ModesTest, TcpGivesTheEmbeddedTokens) { ExpectTheEmbeddedTokens("tcp,self", "tcp"); }

}  // namespace
}  // namespace passband
