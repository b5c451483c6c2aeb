// Goal: `passband bench` measures what it says on a real server over every transport, compares
// bytes when asked, leaves nothing open behind it, and says what went wrong.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/services/server_fixture.h"
#include "tests/support/program.h"
#include "tests/support/pty_program.h"
#include "tests/support/server_process.h"

namespace passband::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;
using test::Outcome;
using test::PtyProgram;

constexpr char kSmall[] = " --tokens 256 --layers 2 --duration 300ms --warm-up 50ms";

Outcome RunBench(const std::string& arguments) {
  return test::Program(std::string(PASSBAND_CLI) + " bench " + arguments + " 2>&1").Finish();
}

class BenchProgram : public ServerTest {
 protected:
  void SetUp() override {
    server::Settings settings = SmallSettings();
    settings.data_grpc = true;
    Start(settings);
  }
  std::string Here() const { return " --server " + ControlAddress(*server_); }
  Json JsonOf(const std::string& arguments) const {
    const Outcome outcome = RunBench(arguments + kSmall + " --json" + Here());
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    Json json = Json::parse(outcome.output, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << outcome.output;
    return json;
  }
  void ExpectNothingLeft() const {
    EXPECT_EQ(Metric(*server_, "passband_sequences{state=\"open\"}"), 0);
    EXPECT_EQ(Metric(*server_, "passband_sessions"), 0);
    EXPECT_EQ(Metric(*server_, "passband_memory_used_bytes"),
              Metric(*server_, "passband_memory_cached_bytes"));
  }
};

TEST_F(BenchProgram, FetchCountsWhatTheServerCounts) {
  const Json json = JsonOf("--rows 100 --workers 2 --batch 2 --verify");
  EXPECT_EQ(json["schema"], "passband.bench/v1");
  EXPECT_EQ(json["what"], "fetch");
  EXPECT_EQ(json["transport"], "shm");
  EXPECT_EQ(json["shape"]["row_bytes"], 512);
  const uint64_t operations = json["operations"];
  EXPECT_GT(operations, 0U);
  EXPECT_EQ(json["rows"], 100 * operations);
  EXPECT_EQ(json["bytes"], 51'200 * operations);
  EXPECT_EQ(json["verified_bytes"], json["bytes"]);
  const Json& latency = json["latency_seconds"];
  EXPECT_GT(latency["p50"], 0.0);
  EXPECT_LE(latency["p50"], latency["p90"]);
  EXPECT_LE(latency["p90"], latency["p99"]);
  EXPECT_LE(latency["p99"], latency["p99_9"]);
  EXPECT_LE(latency["p99_9"], latency["max"]);
  EXPECT_GT(json["rows_per_second"], 0.0);
  // Of the warm-up, too.
  EXPECT_GE(Metric(*server_, "passband_rows_total{method=\"fetch\"}"), 100.0 * operations);
  // Made-up fetches are reported as a worker reports its own.
  EXPECT_GT(Metric(*server_, "passband_full_attention_bytes_total"), 0);
  ExpectNothingLeft();
}

TEST_F(BenchProgram, AppendAndAttachVerifyOverEveryTransport) {
  for (const std::string way : {"--transports tcp,self", "--data-plane grpc", ""}) {
    const Json append = JsonOf("append --verify --batch 2 " + way);
    EXPECT_GT(append["operations"], 0) << way;
    EXPECT_EQ(append["bytes"], append["verified_bytes"]) << way;
    EXPECT_EQ(append["bytes"], append["operations"].get<uint64_t>() * 2 * 64 * 2 * 8 * 512) << way;
    const Json attach = JsonOf("attach --verify " + way);
    EXPECT_GT(attach["operations"], 0) << way;
    EXPECT_GT(attach["verified_bytes"], 0) << way;
    EXPECT_EQ(attach["bytes"], attach["verified_bytes"]) << way;
    EXPECT_EQ(attach["transport"], append["transport"]) << way;
    ExpectNothingLeft();
  }
  EXPECT_GT(JsonOf("append")["bytes"], 0);
  ExpectNothingLeft();
}

TEST_F(BenchProgram, TextHasPercentilesAndRates) {
  const Outcome outcome = RunBench("--verify" + std::string(kSmall) + Here());
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_THAT(outcome.output,
              AllOf(HasSubstr("fetch over shm, 1 worker"), HasSubstr("GB/s"), HasSubstr("p99.9"),
                    HasSubstr("all right"), Not(HasSubstr("\033"))));
}

TEST_F(BenchProgram, CtrlCClosesWhatWasOpened) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"fetch", "measuring"}, {"append", "measuring"}, {"attach", "measuring"}};
  for (const auto& [what, moment] : cases) {
    SCOPED_TRACE(what);
    auto bench = PtyProgram::Start({PASSBAND_CLI, "bench", what, "--tokens", "256", "--layers", "2",
                                    "--duration", "1h", "--server", ControlAddress(*server_)});
    ASSERT_TRUE(bench.ok()) << bench.status();
    ASSERT_TRUE((*bench)->AwaitText(moment)) << (*bench)->output();
    (*bench)->Type("\003");
    EXPECT_EQ((*bench)->AwaitEnd(), 1);
    EXPECT_THAT((*bench)->output(), AllOf(HasSubstr("p99"), HasSubstr("interrupted; what was")));
    ExpectNothingLeft();
  }
}

TEST_F(BenchProgram, RefusalsSayWhatToDo) {
  // 16 MiB of RAM, 32 MiB wanted.
  Outcome outcome = RunBench("--tokens 2048 --layers 2 --batch 2 --answer-within 1s" + Here());
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("this needs 32.00 MiB there"), HasSubstr("--batch")));
  ExpectNothingLeft();

  server::Settings settings = SmallSettings();
  settings.tenant_quotas["small"].bytes = 1 << 20;
  Start(settings);
  outcome = RunBench("--tenant small --answer-within 1s" + std::string(kSmall) + Here());
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("quota"), HasSubstr("this needs 2.00 MiB there")));
  ExpectNothingLeft();

  outcome = RunBench("--rows 100000" + std::string(kSmall) + Here());
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.output, HasSubstr("a layer has 2048"));
  outcome = RunBench("--data-plane grpc" + std::string(kSmall) + Here());
  EXPECT_NE(outcome.code, 0);
  EXPECT_THAT(outcome.output, HasSubstr("grpc"));
  EXPECT_EQ(RunBench("--server 127.0.0.1:1").code, 3);
}

TEST(BenchTest, AServerThatGoesAwayEndsItWithThree) {
  auto server =
      test::ServerProcess::Start({.binary = PASSBAND_SERVER, .flags = {"--ram", "64MiB"}});
  ASSERT_TRUE(server.ok()) << server.status();
  for (const bool killed : {false, true}) {
    auto bench =
        PtyProgram::Start({PASSBAND_CLI, "bench", "--tokens", "256", "--layers", "2", "--workers",
                           "2", "--duration", "1h", "--server", (*server)->control_address()});
    ASSERT_TRUE(bench.ok()) << bench.status();
    ASSERT_TRUE((*bench)->AwaitText("measuring")) << (*bench)->output();
    if (killed) {
      (*server)->Kill();
    } else {
      ASSERT_TRUE((*server)->Pause());  // Neither answers nor hangs up.
    }
    EXPECT_EQ((*bench)->AwaitEnd(), 3) << (*bench)->output();
    EXPECT_THAT((*bench)->output(), HasSubstr("passband: "));
    (*server)->Resume();
  }
}

TEST(BenchTest, WrongUsageExitsWithTwo) {
  for (const std::string arguments :
       {"sing", "--workers 0", "--workers 1000", "--rows 0", "--tokens 1", "--layers x",
        "--duration 5", "--dtype int4", "--data-plane pigeon", "--head-dim 257"}) {
    EXPECT_EQ(RunBench(arguments).code, 2) << arguments;
  }
}

}  // namespace
}  // namespace passband::testing
