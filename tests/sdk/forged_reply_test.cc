// Goal: only the server can answer: replies that somebody else made up, for a request that is under
// way, are dropped and counted; the request ends with the server's own.
#include <gtest/gtest.h>

#include <cstring>
#include <future>
#include <optional>
#include <vector>

#include "sdk/data_channel.h"
#include "sdk/ucx_link.h"
#include "transport/codec.h"
#include "transport/ucx_endpoint.h"
#include "transport/ucx_worker.h"

namespace passband {
namespace {

using transport::HeaderBytes;
using transport::MessageType;
using Bytes = std::vector<std::byte>;

constexpr char kTransports[] = "posix,tcp,self";

// A UCX peer that hears the client's requests, and answers with any bytes it is told to.
class Peer {
 public:
  Status Start() {
    PASSBAND_ASSIGN_OR_RETURN(context_, transport::UcxContext::Create({.tls = kTransports}));
    PASSBAND_ASSIGN_OR_RETURN(worker_, transport::UcxWorker::Create(context_));
    for (const MessageType type : {MessageType::kHello, MessageType::kRead}) {
      PASSBAND_RETURN_IF_ERROR(
          worker_->SetHandler(transport::AmId(type), [this](transport::IncomingMessage& message) {
            heard_ = transport::PeekRequest(message.header()).value();
            if (endpoint_ == nullptr) {
              endpoint_ =
                  transport::UcxEndpoint::Connect(worker_, message.data(), [](Status) {}).value();
            }
          }));
    }
    return OkStatus();
  }
  ~Peer() {
    endpoint_.reset();
    worker_.reset();
  }

  Bytes address() const { return {worker_->address().begin(), worker_->address().end()}; }
  void Progress() { worker_->Progress(); }

  // The next request, or nothing after a long time.
  std::optional<transport::RequestHeader> Hear() {
    heard_.reset();
    const Time end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!heard_.has_value() && std::chrono::steady_clock::now() < end) Progress();
    return heard_;
  }
  void Say(MessageType type, std::span<const std::byte> header,
           std::span<const std::byte> payload) {
    bool sent = false;
    endpoint_->Send(transport::AmId(type), header, payload, {},
                    [&](const Status&) { sent = true; });
    const Time end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!sent && std::chrono::steady_clock::now() < end) Progress();
    ASSERT_TRUE(sent);
  }

 private:
  std::shared_ptr<transport::UcxContext> context_;
  std::shared_ptr<transport::UcxWorker> worker_;
  std::unique_ptr<transport::UcxEndpoint> endpoint_;
  std::optional<transport::RequestHeader> heard_;
};

class ForgedReplyTest : public testing::Test {
 protected:
  void SetUp() override {
    session_.session = 7;
    session_.epoch = 3;
    session_.key.fill(std::byte{42});
    stranger_.fill(std::byte{43});
    ASSERT_TRUE(peer_.Start().ok());
  }

  // Runs on a thread of its own: it waits for the peer's HELLO_ACK.
  StatusOr<std::shared_ptr<DataChannel>> Connect() const {
    PASSBAND_ASSIGN_OR_RETURN(auto link, UcxLink::Create({.tls = kTransports}, peer_.address()));
    return DataChannel::Connect({.server = "peer",
                                 .session = session_,
                                 .limits = {},
                                 .connect_timeout = std::chrono::seconds(20),
                                 .heartbeat = nullptr},
                                std::move(link));
  }

  transport::HelloAckHeader Ack(const transport::RequestHeader& hello) const {
    auto ack = transport::NewHelloAck(hello);
    ack.max_reply_bytes = 1 << 20;
    ack.max_rows = 4096;
    ack.max_outstanding = 4;
    ack.block_tokens = 64;
    return ack;
  }
  void SayError(transport::ReplyHeader reply, const std::optional<MacKey>& key) {
    const std::string text = SetError(reply, Error(StatusCode::kDataLoss, "made up"));
    const auto payload = std::as_bytes(std::span(text));
    if (key.has_value()) transport::Sign(*key, reply, payload);
    peer_.Say(reply.type, HeaderBytes(reply), payload);
  }

  transport::RequestContext session_;
  MacKey stranger_{};
  Peer peer_;
};

TEST_F(ForgedReplyTest, AreDroppedAndCounted) {
  auto connecting = std::async(std::launch::async, [this] { return Connect(); });
  const auto hello = peer_.Hear();
  ASSERT_TRUE(hello.has_value());
  auto refusal = transport::NewHelloAck(*hello);
  const std::string text = SetError(refusal.reply, Error(StatusCode::kUnavailable, "made up"));
  peer_.Say(MessageType::kHelloAck, HeaderBytes(refusal), std::as_bytes(std::span(text)));
  auto ack = Ack(*hello);
  transport::Sign(session_.key, ack, {});
  peer_.Say(MessageType::kHelloAck, HeaderBytes(ack), {});
  while (connecting.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    peer_.Progress();
  }
  const auto connected = connecting.get();
  ASSERT_TRUE(connected.ok()) << connected.status();
  DataChannel& channel = **connected;

  constexpr size_t kRows = 10;
  constexpr size_t kRowBytes = 64;
  Bytes landing(kRows * kRowBytes);
  const auto call = std::make_shared<Call>();
  call->header = transport::NewRead(session_, 0);
  call->landing = landing;
  call->expected_rows = kRows;
  call->deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  auto waiting = std::async(std::launch::async, [&] {
    DataChannel::Lock lock(channel.driver());
    channel.Submit(call);
    return channel.Wait(lock, call);
  });
  const auto read = peer_.Hear();
  ASSERT_TRUE(read.has_value());

  const Bytes rows(landing.size(), std::byte{1});
  const Bytes wrong(landing.size(), std::byte{2});
  auto reply = transport::NewReply(*read);
  reply.rows = kRows;
  reply.payload_bytes = rows.size();
  peer_.Say(MessageType::kReadReply, HeaderBytes(reply), wrong);  // unsigned
  auto foreign = reply;
  transport::Sign(stranger_, foreign, {});
  peer_.Say(MessageType::kReadReply, HeaderBytes(foreign), wrong);
  SayError(reply, std::nullopt);
  SayError(reply, stranger_);
  auto changed = reply;
  transport::Sign(session_.key, changed, {});
  changed.epoch += 1;
  peer_.Say(MessageType::kReadReply, HeaderBytes(changed), wrong);
  transport::Sign(session_.key, reply, {});
  peer_.Say(MessageType::kReadReply, HeaderBytes(reply), rows);
  while (waiting.wait_for(std::chrono::seconds(0)) != std::future_status::ready) peer_.Progress();
  const Status status = waiting.get();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(landing, rows);
  {
    DataChannel::Lock lock(channel.driver());
    EXPECT_EQ(channel.unproven_replies(), 6u);
    EXPECT_TRUE(channel.broken().ok()) << channel.broken();
  }
  channel.Close();
}

}  // namespace
}  // namespace passband
