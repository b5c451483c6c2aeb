// Goal: `passband top` shows what a real server does, as a screen, as lines and as JSON, and leaves
// a terminal as it found it, however it ends.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "base/thread.h"
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

constexpr char kEnter[] = "\033[?1049h";
constexpr char kLeave[] = "\033[?25h\033[?1049l";

Outcome RunTop(const std::string& arguments) {
  return test::Program(std::string(PASSBAND_CLI) + " top " + arguments + " 2>&1").Finish();
}

// Listens on the loopback interface and answers every connection with `answer`, or not at all.
class OtherServer {
 public:
  OtherServer(const std::string& answer, bool hang_up) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(fd_, 8), 0);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = StartThread("other-server", [this, answer, hang_up](const std::stop_token&) {
      std::vector<int> held;
      for (int peer = ::accept(fd_, nullptr, nullptr); peer >= 0;
           peer = ::accept(fd_, nullptr, nullptr)) {
        std::array<char, 1024> request{};
        static_cast<void>(::recv(peer, request.data(), request.size(), 0));
        static_cast<void>(::send(peer, answer.data(), answer.size(), MSG_NOSIGNAL));
        if (hang_up) {
          ::close(peer);
        } else {
          held.push_back(peer);
        }
      }
      for (const int peer : held) ::close(peer);
    });
  }
  ~OtherServer() {
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  const int fd_;
  uint16_t port_ = 0;
  std::jthread thread_;
};

class TopProgram : public ServerTest {
 protected:
  std::string Here() const { return " --server " + ControlAddress(*server_); }
  std::vector<std::string> Words() const {
    return {PASSBAND_CLI, "top", "--server", ControlAddress(*server_), "--interval", "100ms"};
  }
  // A client that appends and fetches, as a step of decoding does.
  static void Load(RawClient& client, uint64_t sequence, int fetches) {
    const std::vector<uint32_t> tokens = {3, 70};
    for (int i = 0; i < fetches; ++i) {
      const RawReply reply = client.Fetch(
          [&](transport::FetchBuilder& fetch) { fetch.Add(sequence, 0, 0, tokens); }, kRowBytes);
      ASSERT_TRUE(reply.status.ok()) << reply.status;
    }
  }
};

TEST_F(TopProgram, JsonIsALineForEachLookAndCountsWhatHappensMeanwhile) {
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  const uint64_t sequence = Open(*client);
  ASSERT_TRUE(Fill(*client, sequence, 0, 128).ok());
  test::Program top(std::string(PASSBAND_CLI) + " top --json --interval 300ms --count 3" + Here());
  std::string first;
  for (int c = top.Next(); c != '\n' && c != EOF; c = top.Next()) first += static_cast<char>(c);
  Load(*client, sequence, 50);
  const Outcome rest = top.Finish();
  EXPECT_EQ(rest.code, 0);
  std::istringstream lines(first + "\n" + rest.output);
  double fetches = 0, rows = 0, bytes = 0, p50 = 0;
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const Json json = Json::parse(line, nullptr, false);
    ASSERT_FALSE(json.is_discarded()) << line;
    EXPECT_EQ(json["schema"], "passband.top/v1");
    EXPECT_EQ(json["ready"], true);
    EXPECT_EQ(json["memory"]["used_bytes"], 2 * kLayers * kBlockBytes);
    EXPECT_TRUE(json["memory"]["disk"].is_null());
    EXPECT_EQ(json["connections"]["shm"], 1);
    EXPECT_EQ(json["tenants"][0]["tenant"], "a");
    EXPECT_EQ(json["tenants"][0]["sequences"], 1);
    const double seconds = json["interval_seconds"];
    EXPECT_EQ(json["traffic"][0]["method"], "fetch");
    fetches += seconds * json["traffic"][0]["requests_per_second"].get<double>();
    rows += seconds * json["traffic"][0]["rows_per_second"].get<double>();
    bytes += seconds * json["traffic"][0]["bytes_per_second"].get<double>();
    if (json["traffic"][0]["p50_seconds"].is_number()) p50 = json["traffic"][0]["p50_seconds"];
    if (json["traffic"][0]["requests_per_second"] > 0.0) {
      // RawClient reports a hundred times a fetch's bytes for full attention.
      EXPECT_NEAR(json["saved"]["share"].get<double>(), 0.99, 1e-9);
      EXPECT_EQ(json["traffic"][1]["transport"], "shm");
      EXPECT_GT(json["traffic"][1]["bytes_per_second"], 0.0);
    }
  }
  EXPECT_EQ(count, 3);
  EXPECT_NEAR(fetches, 50, 1e-6);
  EXPECT_NEAR(rows, 100, 1e-6);
  EXPECT_NEAR(bytes, 100.0 * kRowBytes, 1e-6);
  EXPECT_GT(p50, 0);
}

TEST_F(TopProgram, OnceIsAScreenAsTextSavedFirst) {
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  const uint64_t sequence = Open(*client);
  ASSERT_TRUE(Fill(*client, sequence, 0, 128).ok());
  Load(*client, sequence, 3);
  const Outcome outcome = RunTop("--once --interval 100ms" + Here());
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_THAT(outcome.output,
              AllOf(HasSubstr("no decode step just now; 99.0 % since the start"),
                    HasSubstr("hot rows"), HasSubstr("prefix hits"), HasSubstr("requests/s"),
                    HasSubstr("  shm"), HasSubstr("RAM"), HasSubstr("1 session (1 shm)"),
                    HasSubstr("1 open and 0 sealed sequences"), HasSubstr("of 16.00 MiB")));
  EXPECT_THAT(outcome.output, Not(HasSubstr("\033")));
  EXPECT_LT(outcome.output.find("saved"), outcome.output.find("requests/s"));
}

TEST_F(TopProgram, OffATerminalItWritesPlainLines) {
  const Outcome outcome = RunTop("--count 2 --interval 100ms" + Here());
  EXPECT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_EQ(std::count(outcome.output.begin(), outcome.output.end(), '\n'), 2);
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("saved -"), HasSubstr("fetch 0/s")));
  EXPECT_THAT(outcome.output, Not(HasSubstr("\033")));
}

TEST_F(TopProgram, ATerminalIsLeftAsItWasHoweverItEnds) {
  using Ending = std::function<void(PtyProgram&)>;
  const std::vector<std::pair<std::string, Ending>> endings = {
      {"q", [](PtyProgram& top) { top.Type("xq"); }},
      {"Ctrl-C", [](PtyProgram& top) { top.Type("\003"); }},
      {"SIGINT", [](PtyProgram& top) { top.Signal(SIGINT); }},
      {"SIGTERM", [](PtyProgram& top) { top.Signal(SIGTERM); }},
      {"SIGHUP", [](PtyProgram& top) { top.Signal(SIGHUP); }},
      {"after a change of size",
       [](PtyProgram& top) {
         top.Resize(5, 40);
         ASSERT_TRUE(top.AwaitText("\033[H"));
         top.Signal(SIGINT);
       }},
  };
  for (const auto& [name, end] : endings) {
    SCOPED_TRACE(name);
    auto top = PtyProgram::Start(Words());
    ASSERT_TRUE(top.ok()) << top.status();
    const termios before = (*top)->mode();
    ASSERT_TRUE((*top)->AwaitText(kEnter)) << (*top)->output();
    ASSERT_TRUE((*top)->AwaitText("q quits"));
    EXPECT_EQ((*top)->mode().c_lflag & (ECHO | ICANON), 0U);
    end(**top);
    EXPECT_EQ((*top)->AwaitEnd(), 0);
    EXPECT_TRUE((*top)->output().ends_with(kLeave));
    EXPECT_EQ((*top)->mode().c_lflag, before.c_lflag);
  }
}

TEST_F(TopProgram, AfterCtrlZTheTerminalIsTheShellsAndThenItsAgain) {
  auto top = PtyProgram::Start(Words());
  ASSERT_TRUE(top.ok()) << top.status();
  const termios before = (*top)->mode();
  ASSERT_TRUE((*top)->AwaitText("q quits"));
  (*top)->Signal(SIGTSTP);
  ASSERT_TRUE((*top)->AwaitStopped());
  ASSERT_TRUE((*top)->AwaitText(kLeave));
  EXPECT_EQ((*top)->mode().c_lflag, before.c_lflag);
  (*top)->Signal(SIGCONT);
  ASSERT_TRUE((*top)->AwaitText(kEnter));
  ASSERT_TRUE((*top)->AwaitText("q quits"));
  (*top)->Type("q");
  EXPECT_EQ((*top)->AwaitEnd(), 0);
}

TEST_F(TopProgram, AScreenNeverGrowsBeyondTheTerminal) {
  auto top = PtyProgram::Start(Words(), 4, 30);
  ASSERT_TRUE(top.ok()) << top.status();
  ASSERT_TRUE((*top)->AwaitText("\033[J"));
  const std::string shown = (*top)->output();
  (*top)->Type("q");
  EXPECT_EQ((*top)->AwaitEnd(), 0);
  const std::string screen = shown.substr(shown.find("\033[H"), shown.find("\033[J"));
  EXPECT_EQ(std::count(screen.begin(), screen.end(), '\n'), 3) << screen;
  EXPECT_THAT(screen, AllOf(HasSubstr("passband-server"), Not(HasSubstr("q quits"))));
}

TEST(TopTest, AScreenWaitsForAServerThatIsGone) {
  test::ServerProcess::Options options{.binary = PASSBAND_SERVER, .flags = {"--ram", "16MiB"}};
  auto server = test::ServerProcess::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  options.http_port = (*server)->http_port();
  auto top = PtyProgram::Start({PASSBAND_CLI, "top", "--server", (*server)->control_address(),
                                "--interval", "100ms", "--answer-within", "1s"},
                               40, 200);
  ASSERT_TRUE(top.ok()) << top.status();
  ASSERT_TRUE((*top)->AwaitText("q quits"));
  (*server)->Kill();
  ASSERT_TRUE((*top)->AwaitText("trying again"));
  server = test::ServerProcess::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  ASSERT_TRUE((*top)->AwaitText("started again"));
  (*top)->Type("q");
  EXPECT_EQ((*top)->AwaitEnd(), 0);
}

TEST(TopTest, OffATerminalAServerThatGoesEndsItWithThree) {
  auto server =
      test::ServerProcess::Start({.binary = PASSBAND_SERVER, .flags = {"--ram", "16MiB"}});
  ASSERT_TRUE(server.ok()) << server.status();
  test::Program top(std::string(PASSBAND_CLI) + " top --interval 100ms --server " +
                    (*server)->control_address() + " 2>&1");
  for (int c = top.Next(); c != '\n' && c != EOF;) c = top.Next();
  (*server)->Kill();
  const Outcome outcome = top.Finish();
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.output, HasSubstr("/metrics: "));
}

TEST(TopTest, WhateverElseAnswersEndsItInTimeWithThree) {
  const OtherServer silent("", false), mute("", true), page("HTTP/1.0 200 OK\r\n\r\n<html>", true),
      other("HTTP/1.0 200 OK\r\n\r\ngo_goroutines 7\n", true),
      absent("HTTP/1.1 404 Not Found\r\n\r\n", true),
      cut("HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\na 1\n", true),
      endless("HTTP/1.0 200 OK\r\n\r\n" + std::string(20 << 20, '#'), true);
  const std::vector<std::pair<const OtherServer*, std::string>> cases = {
      {&silent, "no whole answer within 500.00 ms"},
      {&mute, "speaks no HTTP"},
      {&page, "line 1 is no metric"},
      {&other, "not the metrics of a passband-server"},
      {&absent, "404"},
      {&cut, "hung up after 4 of 100 bytes"},
      {&endless, "more than"},
  };
  for (const auto& [server, says] : cases) {
    const Outcome outcome = RunTop("--answer-within 500ms --http " + server->address());
    EXPECT_EQ(outcome.code, 3) << says;
    EXPECT_THAT(outcome.output, HasSubstr(says));
  }
  EXPECT_EQ(RunTop("--server 127.0.0.1:1").code, 3);
  const Outcome refused = RunTop("--http 127.0.0.1:1");
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.output, HasSubstr("refused"));
}

TEST(TopTest, WhatAPageSaysCannotSteerATerminal) {
  const OtherServer evil(
      "HTTP/1.0 200 OK\r\n\r\npassband_build_info{version=\"1\033[31m\"} 1\n"
      "passband_tenant_bytes{tenant=\"\033[2J\"} 1\n"
      "passband_transport_connections{transport=\"\007\"} 1\n",
      true);
  for (const std::string shape : {"--once", "--count 1", "--once --json"}) {
    const Outcome outcome = RunTop("--interval 100ms --http " + evil.address() + " " + shape);
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    EXPECT_THAT(outcome.output, AllOf(Not(HasSubstr("\033")), Not(HasSubstr("\007"))));
  }
}

TEST(TopTest, WrongUsageExitsWithTwo) {
  for (const std::string arguments :
       {"--interval 1", "--interval 10ms", "--interval soon", "--count x", "--once --count 3",
        "--http nowhere", "--count -1"}) {
    EXPECT_EQ(RunTop(arguments).code, 2) << arguments;
  }
}

}  // namespace
}  // namespace passband::testing
