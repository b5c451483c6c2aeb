// Goal: between two processes, bytes arrive as sent; and when the other process is
// killed the connection is reported lost in time, and everything in flight ends.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "tests/transport/peer_protocol.h"
#include "tests/transport/ucx_support.h"

extern char** environ;

namespace passband::transport {
namespace {

using std::chrono::steady_clock;

// A running transport_peer.
class PeerProcess {
 public:
  explicit PeerProcess(const std::string& tls) {
    int to[2], from[2];
    if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) {
      throw std::runtime_error("pipe2");
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, from[1], STDOUT_FILENO);
    std::string program = PASSBAND_TRANSPORT_PEER, argument = tls;
    char* arguments[] = {program.data(), argument.data(), nullptr};
    if (posix_spawn(&pid_, program.c_str(), &actions, nullptr, arguments, environ) != 0) {
      throw std::runtime_error("cannot start " + program);
    }
    posix_spawn_file_actions_destroy(&actions);
    close(to[0]);
    close(from[1]);
    to_ = to[1];
    from_ = from[0];
  }

  ~PeerProcess() {
    Kill();
    close(to_);
    close(from_);
  }

  std::vector<std::byte> ReadAddress() { return ReadFrame(from_); }
  bool WriteAddress(std::span<const std::byte> address) { return WriteFrame(to_, address); }
  void Stop() { kill(pid_, SIGSTOP); }
  // Also reaps it: to UCX, over shared memory, a zombie is alive.
  void Kill() {
    if (pid_ == 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
  int to_ = -1;
  int from_ = -1;
};

class UcxPeerTest : public testing::TestWithParam<std::string> {
 protected:
  UcxPeerTest() : node_(GetParam()), peer_(TlsOf(GetParam())) {
    EXPECT_TRUE(node_.worker
                    ->SetHandler(kEchoed,
                                 [this](IncomingMessage& message) {
                                   echoed_.resize(message.payload_bytes());
                                   message.Receive(echoed_, nullptr, echo_.Callback());
                                 })
                    .ok());
    const auto address = peer_.ReadAddress();
    if (address.empty()) throw std::runtime_error("the peer did not start");
    endpoint_ = node_.Connect(address, [this](Status why) {
      ++lost_;
      why_ = std::move(why);
    });
    peer_.WriteAddress(node_.worker->address());
  }

  bool Run(const std::function<bool()>& condition) {
    return Until({node_.worker.get()}, condition);
  }

  // A first exchange, so that both sides are connected.
  void Meet() {
    endpoint_->Send(kEcho, BytesOf("hello"), {}, {}, [](Status) {});
    ASSERT_TRUE(Run([&] { return echo_.ran(); }));
  }

  static std::chrono::milliseconds DetectionLimit() {
    return GetParam() == "tcp" ? std::chrono::milliseconds(1000) : std::chrono::milliseconds(3000);
  }

  std::vector<std::byte> echoed_;
  Outcome echo_;
  Node node_;
  PeerProcess peer_;
  int lost_ = 0;
  Status why_;
  std::unique_ptr<UcxEndpoint> endpoint_;
};

TEST_P(UcxPeerTest, EchoesEverySize) {
  for (const size_t size : {0ul, 1ul, 8192ul, 917504ul, 8ul << 20}) {
    for (const SendMode mode : {SendMode::kAuto, SendMode::kEager, SendMode::kRendezvous}) {
      const auto payload = RandomPayload(size, size);
      Outcome sent;
      echo_ = {};
      endpoint_->Send(kEcho, BytesOf("h"), payload, {.mode = mode}, sent.Callback());
      ASSERT_TRUE(Run([&] { return sent.ran() && echo_.ran(); })) << size;
      EXPECT_TRUE(echo_.status.ok()) << echo_.status;
      EXPECT_EQ(echoed_, payload) << size;
    }
  }
  EXPECT_EQ(endpoint_->transport_name(), GetParam());
}

TEST_P(UcxPeerTest, NoticesAKilledPeer) {
  Meet();
  peer_.Kill();
  const auto start = steady_clock::now();
  ASSERT_TRUE(Run([&] { return lost_ > 0; }));
  EXPECT_LT(steady_clock::now() - start, DetectionLimit());
  EXPECT_EQ(lost_, 1);
  EXPECT_EQ(why_.code(), StatusCode::kUnavailable) << why_;
  Outcome late;
  endpoint_->Send(kEcho, BytesOf("x"), {}, {}, late.Callback());
  EXPECT_EQ(late.runs, 1);
  EXPECT_EQ(late.status.code(), StatusCode::kUnavailable);
  EXPECT_EQ(endpoint_->transport_name(), GetParam());
}

TEST_P(UcxPeerTest, EndsEverySendToAKilledPeer) {
  Meet();
  peer_.Stop();
  constexpr int kMessages = 30;
  std::vector<Outcome> outcomes(kMessages);
  for (int i = 0; i < kMessages; ++i) {
    const auto mode = i % 2 == 0 ? SendMode::kRendezvous : SendMode::kEager;
    SendOwned(*endpoint_, kEcho, RandomPayload(1 << 20, 1), mode, outcomes[i]);
  }
  EXPECT_GT(node_.worker->outstanding(), 0u);
  peer_.Kill();
  ASSERT_TRUE(Run([&] { return lost_ > 0; }));
  endpoint_.reset();
  ASSERT_TRUE(Run([&] { return node_.worker->outstanding() == 0; }));
  int unavailable = 0;
  for (const auto& outcome : outcomes) {
    EXPECT_EQ(outcome.runs, 1);
    unavailable += outcome.status.code() == StatusCode::kUnavailable;
    EXPECT_TRUE(outcome.status.ok() || outcome.status.code() == StatusCode::kUnavailable)
        << outcome.status;
  }
  EXPECT_GE(unavailable, kMessages / 2) << "no rendezvous can have succeeded";
}

TEST_P(UcxPeerTest, EndsAReceiveWhoseSenderWasKilled) {
  Meet();
  constexpr uint64_t kBytes = 8 << 20;
  std::vector<std::byte> landing(kBytes);
  Outcome received;
  ASSERT_TRUE(node_.worker
                  ->SetHandler(kPushed,
                               [&](IncomingMessage& message) {
                                 peer_.Kill();
                                 message.Receive(landing, nullptr, received.Callback());
                               })
                  .ok());
  endpoint_->Send(kPush, std::as_bytes(std::span(&kBytes, 1)), {}, {}, [](Status) {});
  ASSERT_TRUE(Run([&] { return lost_ > 0; }));
  ASSERT_TRUE(Run([&] { return received.ran(); })) << "the loss of the sender did not end it";
  EXPECT_EQ(received.runs, 1);
  EXPECT_EQ(received.status.code(), StatusCode::kUnavailable) << received.status;
}

INSTANTIATE_TEST_SUITE_P(Transports, UcxPeerTest, testing::Values("shm", "tcp"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace passband::transport
