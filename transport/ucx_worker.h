// UcxWorker: one thread's share of UCX: its connections, its incoming messages,
// and the progress that moves them.
//
// Nothing moves unless somebody calls Progress() or WaitForEvent(). Handlers,
// `done`s and error callbacks run inside them (a `done` also inside the call that
// started the transfer, and inside ~UcxWorker). They may send, connect and
// destroy endpoints; they must not call Progress() or WaitForEvent().
//
// Threads    single_thread: create, use and destroy it on one thread. Otherwise
//            any thread, one at a time, the caller's lock around every call on it
//            and on its endpoints and messages. Wake() at any time from any thread.
// Ownership  shares its context; endpoints share their worker. What is still in
//            flight when it is destroyed ends with kCancelled.
#pragma once

#include <ucs/type/status.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"
#include "base/status.h"
#include "transport/incoming_message.h"
#include "transport/ucx_context.h"

struct ucp_worker;
struct ucp_am_recv_param;

namespace passband::transport {

struct UcxWorkerOptions {
  bool single_thread = true;
  // WaitForEvent() polls this long before it sleeps.
  std::chrono::microseconds spin{20};
  // The longest it sleeps: UCX's descriptors have been seen to miss an event.
  std::chrono::milliseconds max_sleep{20};
};

class UcxWorker {
 public:
  using Handler = absl::AnyInvocable<void(IncomingMessage&)>;

  static StatusOr<std::shared_ptr<UcxWorker>> Create(std::shared_ptr<UcxContext> context,
                                                     const UcxWorkerOptions& options = {});
  ~UcxWorker();

  UcxWorker(const UcxWorker&) = delete;
  UcxWorker& operator=(const UcxWorker&) = delete;

  // What a peer passes to UcxEndpoint::Connect.
  std::span<const std::byte> address() const;

  // Who gets the messages sent to `am_id`. Before any peer knows the address: a
  // message that comes before its handler is dropped. Not to be replaced.
  Status SetHandler(uint16_t am_id, Handler handler);

  // Does what can be done now; true if that was anything.
  bool Progress();

  // Progresses until something happened, Wake() was called, or `timeout` is over
  // (it may return early, after max_sleep, with nothing done). False: nothing.
  bool WaitForEvent(Duration timeout);

  // Ends the current WaitForEvent(), or the next one.
  void Wake();

  // The parts of WaitForEvent(). Arm(): true if event_fd() will become readable
  // with the next event; false: progress again first. Sleep(), after Arm() has said
  // true: until that, Wake() (then true), `timeout` or max_sleep; unlike all else it
  // needs no lock, so that others can send meanwhile.
  StatusOr<bool> Arm();
  bool Sleep(Duration timeout);
  int event_fd() const;

  // Transfers whose `done` has not run.
  size_t outstanding() const;

  const std::shared_ptr<UcxContext>& context() const;
  ucp_worker* handle() const;

  struct Impl;  // worker_impl.h; nobody else's.

 private:
  friend class UcxEndpoint;
  friend class IncomingMessage;
  explicit UcxWorker(std::unique_ptr<Impl> impl);
  static ucs_status_t OnMessage(void* entry, const void* header, size_t header_bytes, void* data,
                                size_t bytes, const ucp_am_recv_param* params);

  std::unique_ptr<Impl> impl_;
};

}  // namespace passband::transport
