// DataLink: what carries a DataChannel's calls: UCX (ucx_link.h) or gRPC (grpc_link.h).
//
// Threads    all under the lock of the channel's driver, which drives it; handlers run inside
//            Progress() and inside Send().
// Ownership  owned by its channel. A call that was sent is shared until its reply came, or the
//            link is destroyed.
// Errors     of Connect: kUnavailable and what to look at. Later ones reach the handlers.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"
#include "sdk/call.h"
#include "sdk/event_source.h"
#include "transport/incoming_message.h"
#include "transport/ucx_context.h"

namespace passband {

// A reply that has just arrived; transport::IncomingMessage says what the methods do.
class IncomingReply {
 public:
  virtual ~IncomingReply() = default;
  virtual std::span<const std::byte> header() const = 0;
  virtual size_t payload_bytes() const = 0;
  // Whether the payload waits at the sender.
  virtual bool waits() const = 0;
  // The text of an error; of other replies, what is here.
  virtual std::span<const std::byte> data() const = 0;
  virtual void Receive(std::span<std::byte> into, const transport::UcxMemory* memory,
                       transport::Done done) = 0;
  virtual void Refuse(const Status& why) = 0;
};

class DataLink : public EventSource {
 public:
  using CallPtr = std::shared_ptr<Call>;
  struct Handlers {
    std::function<void(transport::MessageType, IncomingReply&)> on_reply;
    // The call is over without a reply: the server said so, or its time is.
    std::function<void(const CallPtr&, Status)> on_error;
    // The call is not sent, or was turned away; a reply may still say why.
    std::function<void(const CallPtr&, const Status&)> on_unsent;
    // The connection is lost, for every call.
    std::function<void(Status)> on_lost;
  };

  // Once, before all else. Succeeds before the server is known to be there.
  virtual Status Connect(Handlers handlers) = 0;
  // Header and payload are complete, and signed.
  virtual void Send(const CallPtr& call) = 0;
  // Whether the server takes calls up in the order in which they were sent.
  virtual bool ordered() const = 0;
  // Nobody waits for a call that was sent.
  virtual void Cancel(const Call& call) = 0;
  // Nothing is sent or received any more.
  virtual void Close() = 0;
  // Between Connect and the loss of the connection, or Close.
  virtual bool connected() const = 0;
  // Transfers that are not over.
  virtual size_t outstanding() const = 0;

  // What HELLO carries; empty: the server needs none.
  virtual std::span<const std::byte> hello() const = 0;
  // "shm", "tcp", "rdma", "grpc", "grpc+tls"; "unknown" before it is known.
  virtual std::string transport() const = 0;
  // Registers the memory of transfers; null: they need none.
  virtual std::shared_ptr<transport::UcxContext> ucx() const = 0;
};

}  // namespace passband
