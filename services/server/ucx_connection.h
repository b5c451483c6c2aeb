// UcxConnection: the UCX endpoint to one worker, over which its requests are answered.
//
// Units      times of the steady clock.
// Threads    its data thread.
// Ownership  connection.h; the endpoint ends with Close().
// Errors     sends on a closed connection end with kCancelled at once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "services/server/connection.h"
#include "services/server/reply_path.h"
#include "transport/ucx_endpoint.h"
#include "transport/wire.h"

namespace passband::server {

class UcxConnection final : public Connection, public ReplyPath {
 public:
  UcxConnection(std::shared_ptr<Session> session, ThreadCounters& counters)
      : Connection(std::move(session), counters, Transport::kUnknown) {}
  ~UcxConnection() override { Close(); }

  Status Connect(const std::shared_ptr<transport::UcxWorker>& worker,
                 std::span<const std::byte> address, transport::UcxEndpoint::OnError on_lost);
  void Close() override;
  bool open() const override { return endpoint_ != nullptr; }
  // Whether it is open and leads to the worker with this address.
  bool LeadsTo(std::span<const std::byte> address) const;

  // Asks UCX which lane it is: once connected, and until it says a name.
  void LearnTransport();

  // Sends whose end is not known yet.
  uint32_t sends() const { return sends_; }
  // Since when a send has been waiting for the peer; Time::max() while none is.
  Time oldest_send() const { return sends_ == 0 ? Time::max() : waiting_since_; }

  void Send(const transport::ReplyHeader& reply, std::span<const std::byte> payload,
            const transport::UcxMemory* memory, transport::Done done) override;
  void SendError(const transport::ReplyHeader& reply, const Status& status) override;
  // The acknowledgement of a HELLO; an error, unless `status` is OK.
  void SendHelloAck(transport::HelloAckHeader ack, const Status& status, transport::Done done);

 private:
  void SendBytes(transport::MessageType type, std::span<const std::byte> header,
                 std::span<const std::byte> payload, const transport::UcxMemory* memory,
                 transport::Done done);

  std::vector<std::byte> address_;
  std::unique_ptr<transport::UcxEndpoint> endpoint_;
  uint32_t sends_ = 0;
  Time waiting_since_{};  // of the last sign of life while sends_ > 0
};

}  // namespace passband::server
