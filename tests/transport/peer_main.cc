// The other process of ucx_peer_test. Arguments: the kind of transport. Writes its
// worker address to standard output and reads the test's from standard input, each
// as a 4-byte length and the bytes; then answers until standard input ends.
#include <poll.h>
#include <unistd.h>

#include <cstring>
#include <iostream>
#include <list>

#include "tests/transport/peer_protocol.h"
#include "transport/ucx_endpoint.h"

namespace passband::transport {
namespace {

struct Echo {
  std::vector<std::byte> header;
  std::vector<std::byte> payload;
};

class Peer {
 public:
  explicit Peer(std::shared_ptr<UcxWorker> worker) : worker_(std::move(worker)) {}

  Status Serve() {
    PASSBAND_RETURN_IF_ERROR(
        worker_->SetHandler(kEcho, [this](IncomingMessage& message) { OnEcho(message); }));
    PASSBAND_RETURN_IF_ERROR(
        worker_->SetHandler(kPush, [this](IncomingMessage& message) { OnPush(message); }));
    if (!WriteFrame(STDOUT_FILENO, worker_->address())) {
      return Error(StatusCode::kUnavailable, "the test is gone");
    }
    const auto address = ReadFrame(STDIN_FILENO);
    PASSBAND_ASSIGN_OR_RETURN(endpoint_, UcxEndpoint::Connect(worker_, address, [](Status) {}));
    pollfd input{STDIN_FILENO, POLLIN, 0};
    while (poll(&input, 1, 0) == 0) worker_->WaitForEvent(std::chrono::milliseconds(5));
    return OkStatus();
  }

 private:
  void OnEcho(IncomingMessage& message) {
    auto echo = std::make_shared<Echo>();
    echo->header.assign(message.header().begin(), message.header().end());
    echo->payload.resize(message.payload_bytes());
    message.Receive(echo->payload, nullptr, [this, echo](const Status& status) {
      if (!status.ok()) return;
      endpoint_->Send(kEchoed, echo->header, echo->payload, {}, [echo](const Status&) {});
    });
  }

  // Sends as many bytes as asked, by rendezvous.
  void OnPush(IncomingMessage& message) {
    uint64_t bytes = 0;
    std::memcpy(&bytes, message.header().data(), sizeof(bytes));
    auto payload = std::make_shared<std::vector<std::byte>>(bytes);
    endpoint_->Send(kPushed, {}, *payload, {.mode = SendMode::kRendezvous},
                    [payload](const Status&) {});
  }

  std::shared_ptr<UcxWorker> worker_;
  std::unique_ptr<UcxEndpoint> endpoint_;
};

Status Main(const std::string& tls) {
  PASSBAND_ASSIGN_OR_RETURN(auto context, UcxContext::Create({.tls = tls}));
  PASSBAND_ASSIGN_OR_RETURN(auto worker, UcxWorker::Create(context));
  return Peer(std::move(worker)).Serve();
}

}  // namespace
}  // namespace passband::transport

int main(int argc, char** argv) {
  const auto status = passband::transport::Main(argc > 1 ? argv[1] : "auto");
  if (!status.ok()) std::cerr << status << "\n";
  return status.ok() ? 0 : 1;
}
