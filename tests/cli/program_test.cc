// Goal: the operator's command tells the truth about a real server, to people and to programs,
// and exits as documented.
#include "tests/support/program.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "base/thread.h"
#include "base/version.h"
#include "tests/services/server_fixture.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;
using test::Outcome;

Outcome RunCli(const std::string& arguments, const std::string& environment = "") {
  return test::Program(environment + " " + PASSBAND_CLI + " " + arguments + " 2>&1").Finish();
}

class CliProgram : public ServerTest {
 protected:
  Outcome RunHere(const std::string& arguments) const {
    return RunCli(arguments + " --server " + ControlAddress(*server_));
  }
  Json JsonHere(const std::string& arguments) const {
    const Outcome outcome = RunHere(arguments + " --json");
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    Json json = Json::parse(outcome.output, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << outcome.output;
    return json;
  }
  // A sequence of `count` tokens of a client that is connected to the data plane.
  uint64_t Filled(RawClient& client, uint64_t count) {
    const uint64_t sequence = Open(client);
    EXPECT_TRUE(Fill(client, sequence, 0, count).ok());
    return sequence;
  }
  static void Beat(RawClient& client) {
    v1::HeartbeatRequest request;
    request.set_selected_rows(1000);
    request.set_hot_rows(970);
    request.set_full_attention_bytes(1 << 20);
    v1::HeartbeatResponse response;
    ASSERT_TRUE(client.stub().Heartbeat(client.Context().get(), request, &response).ok());
  }
};

TEST_F(CliProgram, StatusOfAFreshServerIsHonest) {
  const Outcome outcome = RunHere("status");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.output,
              AllOf(HasSubstr(std::string("passband-server ") + kVersion), HasSubstr("ready"),
                    HasSubstr("no worker has reported a decode step yet"),
                    HasSubstr("16.00 MiB free"), HasSubstr("no data connection")));
  EXPECT_THAT(outcome.output, Not(HasSubstr("\033")));
  const Json json = JsonHere("status");
  EXPECT_TRUE(json["saved_share"].is_null());
  EXPECT_EQ(json["sessions"], 0);
}

TEST_F(CliProgram, StatusShowsWhatIsSaved) {
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  const uint64_t sequence = Filled(*client, 128);
  const std::vector<uint32_t> tokens = {3, 70};
  const RawReply reply = client->Fetch(
      [&](transport::FetchBuilder& fetch) { fetch.Add(sequence, 0, 0, tokens); }, kRowBytes);
  ASSERT_TRUE(reply.status.ok()) << reply.status;
  Beat(*client);
  const Json json = JsonHere("status");
  EXPECT_EQ(json["schema"], "passband.status/v1");
  EXPECT_EQ(json["version"], kVersion);
  EXPECT_EQ(json["fetched_rows"], 2);
  EXPECT_EQ(json["fetched_bytes"], 2 * kRowBytes);
  // The fetch of RawClient reports twice its rows as selected, its rows as hot, and a hundred
  // times its bytes for full attention; Beat() adds the rest.
  constexpr uint64_t kFull = (1 << 20) + uint64_t{100} * 2 * kRowBytes;
  EXPECT_EQ(json["full_attention_bytes"], kFull);
  EXPECT_DOUBLE_EQ(json["saved_share"], 1 - 2.0 * kRowBytes / static_cast<double>(kFull));
  EXPECT_DOUBLE_EQ(json["hot_row_share"], 972.0 / 1004);
  EXPECT_EQ(json["stored_tokens"], 128);
  EXPECT_EQ(json["memory"]["used_bytes"], 2 * kLayers * kBlockBytes);
  EXPECT_EQ(json["transports"], Json::array({"shm"}));
  EXPECT_THAT(RunHere("status").output,
              AllOf(HasSubstr("99.95 %"), HasSubstr("96.8 %"), HasSubstr("512 B fetched"),
                    HasSubstr("1.05 MiB"), HasSubstr("over shm"), HasSubstr("1 open, 0 sealed")));
}

TEST_F(CliProgram, LsShowsEveryTenantInPages) {
  EXPECT_EQ(RunHere("ls").output, "no sequences\n");
  const auto a = Client("a"), b = Client("b");
  ASSERT_TRUE(a->Hello().ok());
  const uint64_t first = Filled(*a, 64), second = Open(*b), third = Open(*a);
  const Json all = JsonHere("ls");
  EXPECT_EQ(all["schema"], "passband.sequences/v1");
  ASSERT_EQ(all["sequences"].size(), 3U);
  EXPECT_EQ(all["sequences"][0]["sequence"], first);
  EXPECT_EQ(all["sequences"][0]["tokens"], 64);
  EXPECT_EQ(all["sequences"][0]["state"], "open");
  EXPECT_EQ(all["sequences"][1]["tenant"], "b");
  EXPECT_EQ(JsonHere("ls --tenant b")["sequences"].size(), 1U);
  EXPECT_EQ(RunHere("ls --tenant nobody").output, "no sequences of tenant nobody\n");
  const Json page = JsonHere("ls --limit 2");
  EXPECT_EQ(page["sequences"].size(), 2U);
  EXPECT_EQ(page["more"], true);
  const Json rest = JsonHere("ls --after " + std::to_string(second));
  ASSERT_EQ(rest["sequences"].size(), 1U);
  EXPECT_EQ(rest["sequences"][0]["sequence"], third);
  EXPECT_EQ(rest["more"], false);
  const Outcome text = RunHere("ls --limit 2");
  EXPECT_THAT(text.output, AllOf(HasSubstr("sequence"), HasSubstr("tenant"), HasSubstr("test ("),
                                 HasSubstr("64.00 KiB"), HasSubstr("--after")));
}

TEST_F(CliProgram, InspectTellsAllOfOneSequence) {
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  const std::string number = std::to_string(Filled(*client, 70));
  const Json json = JsonHere("inspect " + number);
  EXPECT_EQ(json["schema"], "passband.sequence/v1");
  EXPECT_EQ(json["tenant"], "a");
  EXPECT_EQ(json["tokens"], 70);
  EXPECT_EQ(json["resident_bytes"], 2 * kLayers * kBlockBytes);
  EXPECT_EQ(json["model"], TestModel().fingerprint());
  EXPECT_EQ(json["model_name"], "test");
  EXPECT_EQ(json["shape"]["token_bytes"], kLayers * kKvHeads * kRowBytes);
  EXPECT_EQ(json["owner"]["session"], fmt::format("{:016x}", client->session().session()));
  EXPECT_THAT(RunHere("inspect " + number).output,
              AllOf(HasSubstr("70 stored"), HasSubstr("2 layers, 2 kv heads of 64, bf16"),
                    HasSubstr(TestModel().fingerprint())));
  const Outcome absent = RunHere("inspect 987654");
  EXPECT_EQ(absent.code, 1);
  EXPECT_THAT(absent.output, HasSubstr("passband ls"));
}

TEST_F(CliProgram, DrainOfAnIdleServerIsDoneAtOnce) {
  const Outcome outcome = RunHere("drain");
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr("drained"));
  EXPECT_EQ(Get(*server_, "/readyz", 503), "draining\n");
  EXPECT_THAT(RunHere("status").output, HasSubstr("draining"));
  EXPECT_EQ(RunHere("drain").code, 0);
  // Operators need no session, so they see a draining server, too.
  EXPECT_EQ(RunHere("ls").code, 0);
}

TEST_F(CliProgram, DrainWithoutWaitingLeavesWhatIsOpen) {
  const auto client = Client("a");
  Open(*client);
  const Json json = JsonHere("drain --no-wait");
  EXPECT_EQ(json["drained"], false);
  EXPECT_EQ(json["open_sequences"], 1);
  EXPECT_EQ(json["sessions"], 1);
}

TEST_F(CliProgram, DrainSaysWhatIsLeftAfterTheTimeout) {
  const auto client = Client("a");
  Open(*client);
  const Outcome outcome = RunHere("drain --timeout 300ms");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("1 open sequence, 1 session still there"),
                                    HasSubstr("draining  1 open sequence, 1 session\n")));
}

TEST_F(CliProgram, DrainCountsDownToNothing) {
  auto client = Client("a");
  Open(*client);
  test::Program drain(std::string(PASSBAND_CLI) + " drain --server " + ControlAddress(*server_) +
                      " 2>&1");
  std::string line;
  for (int c = drain.Next(); c != '\n' && c != EOF; c = drain.Next()) line += static_cast<char>(c);
  EXPECT_EQ(line, "draining  1 open sequence, 1 session");
  v1::DisconnectResponse bye;
  ASSERT_TRUE(client->stub().Disconnect(client->Context().get(), {}, &bye).ok());
  const Outcome outcome = drain.Finish();
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.output, HasSubstr("drained: nothing is open"));
}

TEST_F(CliProgram, AServerThatIsNotThereExitsWithThree) {
  for (const std::string command : {"status", "ls", "inspect 1", "drain"}) {
    const Outcome outcome = RunCli(command + " --server 127.0.0.1:1");
    EXPECT_EQ(outcome.code, 3) << command;
    EXPECT_THAT(outcome.output, HasSubstr("cannot reach passband-server at 127.0.0.1:1"))
        << command;
  }
}

TEST_F(CliProgram, SomethingElseAtThePortIsSaid) {
  const Outcome outcome =
      RunCli("status --server 127.0.0.1:" + std::to_string(server_->endpoints().http_port));
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.output, HasSubstr("passband-server"));
}

TEST_F(CliProgram, FlagBeatsEnvironmentBeatsFile) {
  const std::string here = ControlAddress(*server_), nowhere = "127.0.0.1:1";
  const test::TempFolder folder;
  std::ofstream(folder / "good.yaml") << "server: " << here << "\n";
  std::ofstream(folder / "bad.yaml") << "server: " << nowhere << "\n";
  std::ofstream(folder / "typo.yaml") << "limit: 5\nservre: x:1\n";
  const std::string good = " --config " + folder / "good.yaml";
  EXPECT_EQ(RunCli("status" + good).code, 0);
  EXPECT_EQ(RunCli("status" + good, "PASSBAND_SERVER=" + nowhere).code, 3);
  EXPECT_EQ(RunCli("status --config " + folder / "bad.yaml", "PASSBAND_SERVER=" + here).code, 0);
  EXPECT_EQ(RunCli("status --server " + nowhere, "PASSBAND_SERVER=" + here).code, 3);
  EXPECT_EQ(RunCli("ls", "PASSBAND_CLI_CONFIG=" + folder / "good.yaml").code, 0);
  const Outcome typo = RunCli("ls --config " + folder / "typo.yaml");
  EXPECT_EQ(typo.code, 2);
  EXPECT_THAT(typo.output, HasSubstr("typo.yaml:2: unknown key 'servre'; did you mean 'server'?"));
}

TEST_F(CliProgram, WrongUsageExitsWithTwo) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "subcommand"},
      {"frobnicate", "subcommand"},
      {"status --server nowhere", "host:port"},
      {"status --server here:99999", "host:port"},
      {"status --answer-within 5", "duration"},
      {"inspect", "SEQUENCE"},
      {"inspect x", "SEQUENCE"},
      {"ls --limit 0", "--limit"},
      {"ls --limit many", "--limit"},
      {"drain --timeout soon", "soon"},
      {"drain --frob", "--frob"},
  };
  for (const auto& [arguments, names] : cases) {
    const Outcome outcome = RunCli(arguments);
    EXPECT_EQ(outcome.code, 2) << arguments << "\n" << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr(names)) << arguments;
  }
}

TEST_F(CliProgram, HelpTeachesAndFitsEightyColumns) {
  for (const std::string command :
       {"", "status", "top", "bench", "ls", "inspect", "drain", "calibrate", "verify"}) {
    const Outcome outcome = RunCli(command + " --help");
    EXPECT_EQ(outcome.code, 0);
    EXPECT_THAT(outcome.output, HasSubstr("Examples:")) << command;
    std::istringstream lines(outcome.output);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80U) << line;
  }
  EXPECT_EQ(RunCli("--version").output, std::string("passband ") + kVersion + "\n");
}

}  // namespace
}  // namespace passband::testing
