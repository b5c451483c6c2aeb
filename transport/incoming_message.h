// IncomingMessage: an active message that has just arrived, as its handler sees
// it. A small one is already here (eager); a large one waits at the sender until
// the handler names a place for it (rendezvous).
//
// The handler calls Receive() or Refuse(), once, before it returns. One that does
// neither has dropped an eager message, and has refused a rendezvous (kInternal).
//
// Units      bytes.
// Threads    the worker's thread, inside the handler only.
// Ownership  header() and data() end with the handler: copy what must stay.
//            The place given to Receive() must live until its `done` has run.
#pragma once

#include <cstddef>
#include <span>

#include "absl/functional/any_invocable.h"
#include "base/status.h"
#include "transport/ucx_memory.h"

struct ucp_ep;

namespace passband::transport {

// Runs exactly once, on the worker's thread.
using Done = absl::AnyInvocable<void(Status) &&>;

class UcxWorker;

class IncomingMessage {
 public:
  std::span<const std::byte> header() const { return header_; }
  size_t payload_bytes() const { return payload_bytes_; }
  bool is_rendezvous() const { return rendezvous_; }
  // The whole payload of an eager message, at any alignment; empty for a
  // rendezvous.
  std::span<const std::byte> data() const;

  // Moves the payload to the front of `into`, which must hold payload_bytes();
  // the rest of `into` is left as it is. Eager: copies, and `done` has run on
  // return. Rendezvous: the transfer starts, and `done` may run on the spot.
  // `memory`, if any, contains `into`. done: OK (every byte is there),
  // kInvalidArgument (too small; the sender is refused), kUnavailable (the sender
  // died), kCancelled (the endpoint to the sender, or the worker, was destroyed).
  // On error the content of `into` is undefined.
  void Receive(std::span<std::byte> into, const UcxMemory* memory, Done done);

  // Turns a rendezvous away: the sender's `done` gets an error with this code,
  // where UCX can carry it (else kInternal), and no text. Drops an eager message.
  void Refuse(const Status& why);

 private:
  friend class UcxWorker;
  // `sender`: UCX's endpoint to where a rendezvous comes from; null if eager.
  IncomingMessage(UcxWorker& worker, std::span<const std::byte> header, void* data,
                  size_t payload_bytes, ucp_ep* sender)
      : worker_(worker),
        header_(header),
        data_(data),
        payload_bytes_(payload_bytes),
        rendezvous_(sender != nullptr),
        sender_(sender) {}

  UcxWorker& worker_;
  std::span<const std::byte> header_;
  void* data_;  // The bytes, or UCX's descriptor of a rendezvous.
  size_t payload_bytes_;
  bool rendezvous_;
  ucp_ep* sender_;
  bool received_ = false;
  Status refusal_;
};

}  // namespace passband::transport
