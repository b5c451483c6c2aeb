// ReplyPath: where the answer to one request goes. Over UCX it is the connection; over gRPC, the
// call that carried the request.
//
// Threads    its data thread.
// Ownership  shared by the requests that answer over it. A payload must live until `done` has run.
// Errors     `done` runs exactly once: OK when the payload may be used again, else why it was not
//            sent.
#pragma once

#include <cstddef>
#include <span>

#include "base/status.h"
#include "transport/incoming_message.h"
#include "transport/ucx_memory.h"
#include "transport/wire.h"

namespace passband::server {

class ReplyPath {
 public:
  virtual ~ReplyPath() = default;

  // False once nobody takes an answer: the connection is closed, the call cancelled.
  virtual bool open() const = 0;
  // An OK reply, signed. `memory`: what `payload` lies in, if UCX knows it.
  virtual void Send(const transport::ReplyHeader& reply, std::span<const std::byte> payload,
                    const transport::UcxMemory* memory, transport::Done done) = 0;
  // An error; `reply` has everything but the code, the text and the MAC.
  virtual void SendError(const transport::ReplyHeader& reply, const Status& status) = 0;
};

}  // namespace passband::server
