// IncomingPayload: what follows a request's header. It may be here already, or wait at the sender
// until a place for it is named.
//
// Units      bytes.
// Threads    its data thread, while the request is being served.
// Ownership  data() ends with it; a place given to Receive must live until `done` has run.
// Errors     those of transport::IncomingMessage.
#pragma once

#include <cstddef>
#include <span>

#include "base/status.h"
#include "transport/incoming_message.h"
#include "transport/ucx_memory.h"

namespace passband::server {

class IncomingPayload {
 public:
  virtual ~IncomingPayload() = default;

  virtual size_t bytes() const = 0;
  // Whether it waits at the sender.
  virtual bool waits() const = 0;
  // The whole of it; empty while it waits.
  virtual std::span<const std::byte> data() = 0;
  // Moves it to the front of `into`, which must hold bytes().
  virtual void Receive(std::span<std::byte> into, const transport::UcxMemory* memory,
                       transport::Done done) = 0;
  // Turns away what waits; drops what is here.
  virtual void Refuse(const Status& why) = 0;
};

// One that came as an active message, which must outlive it.
class UcxPayload final : public IncomingPayload {
 public:
  explicit UcxPayload(transport::IncomingMessage& message) : message_(message) {}

  size_t bytes() const override { return message_.payload_bytes(); }
  bool waits() const override { return message_.is_rendezvous(); }
  std::span<const std::byte> data() override { return message_.data(); }
  void Receive(std::span<std::byte> into, const transport::UcxMemory* memory,
               transport::Done done) override {
    message_.Receive(into, memory, std::move(done));
  }
  void Refuse(const Status& why) override { message_.Refuse(why); }

 private:
  transport::IncomingMessage& message_;
};

}  // namespace passband::server
