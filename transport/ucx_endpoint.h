// UcxEndpoint: one connection to a peer's worker, over which messages are sent.
// (What the peer sends arrives at the worker's handlers.)
//
// Both sides connect to each other, in UCX's peer error mode: a peer that dies is
// noticed (tcp: milliseconds, shared memory: about a second). A peer that merely
// hangs is not: give every request its own deadline.
//
// Threads    its worker's rules (ucx_worker.h).
// Ownership  shares its worker. The header of a message is copied; its payload
//            stays the caller's and must live, unchanged, until `done` has run.
// Errors     `done` runs exactly once: OK (the payload may be reused; for a
//            rendezvous also: the peer has all of it), kUnavailable (peer gone),
//            kCancelled (endpoint or worker destroyed), or the code with which
//            the peer refused a rendezvous.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/functional/any_invocable.h"
#include "base/status.h"
#include "transport/incoming_message.h"
#include "transport/ucx_memory.h"
#include "transport/ucx_worker.h"

namespace passband::transport {

enum class SendMode : uint8_t {
  kAuto,        // UCX chooses by size.
  kEager,       // Arrives whole in the handler.
  kRendezvous,  // Waits until the handler has named a place.
};

struct SendOptions {
  SendMode mode = SendMode::kAuto;
  const UcxMemory* memory = nullptr;  // Contains the payload, if given.
};

class UcxEndpoint {
 public:
  // Runs once at most, inside Progress(), when the connection is lost; not after
  // the endpoint is destroyed. Destroy it soon: the last `done`s in flight may not
  // run before.
  using OnError = absl::AnyInvocable<void(Status) &&>;

  // `address` must come from a peer that has proved who it is: UCX does not
  // validate it. Succeeds before the peer is known to be there.
  static StatusOr<std::unique_ptr<UcxEndpoint>> Connect(std::shared_ptr<UcxWorker> worker,
                                                        std::span<const std::byte> address,
                                                        OnError on_error);

  // Closes at once and never waits. What is in flight ends with kCancelled, in
  // this call or in a later Progress() (at the latest in ~UcxWorker); so a `done`
  // must not rely on the endpoint, or on its owner, being there.
  ~UcxEndpoint();

  UcxEndpoint(const UcxEndpoint&) = delete;
  UcxEndpoint& operator=(const UcxEndpoint&) = delete;

  void Send(uint16_t am_id, std::span<const std::byte> header, std::span<const std::byte> payload,
            const SendOptions& options, Done done);

  // `done` runs once everything sent before has reached the peer's UCX.
  void Flush(Done done);

  // Why the connection was lost; OK while it was not. Send() on a lost endpoint
  // fails on the spot.
  const Status& status() const;

  // What carries its messages: "shm", "tcp", "rdma" or "self"; "unknown" if UCX
  // names something else. Asks UCX each time (tens of microseconds).
  std::string transport_name() const;

  struct Connection;  // worker_impl.h; nobody else's.

 private:
  UcxEndpoint(std::shared_ptr<UcxWorker> worker, std::unique_ptr<Connection> connection);

  std::shared_ptr<UcxWorker> worker_;
  std::unique_ptr<Connection> connection_;
};

}  // namespace passband::transport
