// Goal: the demonstration answers every question, whatever ports are taken, and leaves nothing
// behind but what it was asked to keep.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <httplib.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <vector>

#include "tests/support/program.h"
#include "tests/support/temp_folder.h"

namespace passband {
namespace {

using ::testing::HasSubstr;

// Listens on the ports that programs use by default; those that somebody else has are taken, too.
class TakenPorts {
 public:
  TakenPorts() {
    for (const uint16_t port : {50061, 50062, 9461}) {
      const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(port);
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      if (::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
        ::listen(socket, 1);
      }
      sockets_.push_back(socket);
    }
  }
  ~TakenPorts() {
    for (const int socket : sockets_) ::close(socket);
  }
  TakenPorts(const TakenPorts&) = delete;
  TakenPorts& operator=(const TakenPorts&) = delete;

 private:
  std::vector<int> sockets_;
};

// Processes whose command line names `text`, other than this one.
std::vector<pid_t> ProcessesNaming(const std::string& text) {
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "cmdline");
    const std::string line{std::istreambuf_iterator<char>(file), {}};
    const pid_t pid = std::stoi(name);
    if (pid != ::getpid() && line.find(text) != std::string::npos) found.push_back(pid);
  }
  return found;
}

class DemoTest : public ::testing::Test {
 protected:
  // Its temporary files, and so its processes' command lines, are below folder_.
  test::Outcome Demo(const std::string& arguments) const {
    return test::Program("TMPDIR=" + folder_.path() + " PASSBAND_BIN=" PASSBAND_BIN " " +
                         PASSBAND_SOURCE "/scripts/demo " + arguments + " 2>&1 </dev/null")
        .Finish();
  }

  const test::TempFolder folder_;
};

TEST_F(DemoTest, AnswersEverythingAndLeavesNothing) {
  const test::Outcome demo = Demo("");
  EXPECT_EQ(demo.code, 0) << demo.output;
  EXPECT_THAT(demo.output, HasSubstr("8 of 8"));
  EXPECT_TRUE(ProcessesNaming(folder_.path()).empty());
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(DemoTest, TakenPortsAreNoTroubleAndTheServerIsKeptWhenAsked) {
  const TakenPorts taken;
  const test::Outcome demo = Demo("--keep");
  EXPECT_EQ(demo.code, 0) << demo.output;
  EXPECT_THAT(demo.output, HasSubstr("8 of 8"));
  std::smatch page;
  ASSERT_TRUE(std::regex_search(demo.output, page, std::regex("http://127.0.0.1:([0-9]+)/")))
      << demo.output;
  httplib::Client client("127.0.0.1", std::stoi(page[1]));
  const auto ready = client.Get("/readyz");
  EXPECT_TRUE(ready && ready->status == 200);
  const std::vector<pid_t> kept = ProcessesNaming(folder_.path());
  ASSERT_EQ(kept.size(), 1U);
  EXPECT_THAT(demo.output, HasSubstr("kill " + std::to_string(kept[0])));
  ::kill(kept[0], SIGTERM);
}

}  // namespace
}  // namespace passband
