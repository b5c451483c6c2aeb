// What UcxWorker, UcxEndpoint and IncomingMessage share: the transfers in flight
// and the connections on their way out. For their .cc files only.
//
// Threads    its worker's rules (ucx_worker.h).
#pragma once

#include <ucp/api/ucp.h>

#include <atomic>
#include <list>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "transport/ucx_endpoint.h"
#include "transport/ucx_status.h"
#include "transport/ucx_worker.h"

namespace passband::transport {

// One transfer whose `done` has not run. UCX holds its address.
struct Transfer {
  Transfer(UcxWorker::Impl* owner, const char* what, Done when_done)
      : worker(owner), name(what), done(std::move(when_done)) {}

  UcxWorker::Impl* worker;
  const char* name;
  Done done;                                      // Null once it has run.
  UcxEndpoint::Connection* connection = nullptr;  // Of a send.
  ucp_ep_h sender = nullptr;                      // Of a receive: UCX's endpoint to the sender.
  // UCX reads the header until the send is complete.
  absl::InlinedVector<std::byte, 128> header;
  std::list<Transfer>::iterator self;
};

struct UcxEndpoint::Connection {
  UcxWorker::Impl* worker = nullptr;
  ucp_ep_h handle = nullptr;
  OnError on_error;
  Status status;
  std::string last_transport;
  bool closing = false;
  std::list<std::unique_ptr<Connection>>::iterator self;  // In Impl::closing.
};

struct UcxWorker::Impl {
  struct HandlerEntry {
    UcxWorker* worker;
    Handler handler;
  };

  // Runs what UCX may call back from; closes what was destroyed meanwhile.
  class Inside {
   public:
    explicit Inside(Impl& impl) : impl_(impl) { ++impl_.depth; }
    ~Inside() {
      if (--impl_.depth == 0) impl_.StartClosing();
    }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;

   private:
    Impl& impl_;
  };

  Transfer& Begin(const char* name, Done done);
  // What every nbx call returns: in flight, done, or failed on the spot.
  void Conclude(Transfer& transfer, ucs_status_ptr_t result);
  void Finish(Transfer& transfer, ucs_status_t status);
  static void OnSent(void* request, ucs_status_t status, void* transfer);
  static void OnReceived(void* request, ucs_status_t status, size_t bytes, void* transfer);

  // Takes over a connection whose endpoint was destroyed.
  void Retire(std::unique_ptr<UcxEndpoint::Connection> connection);
  void StartClosing();
  void Close(UcxEndpoint::Connection& connection);
  // Closes what receives are still in flight from: ucp_worker_destroy aborts the
  // process over them.
  void CloseSenders();
  static void OnClosed(void* request, ucs_status_t status, void* connection);
  // Ends the sends that UCX has left behind on a connection now closed.
  void Forget(UcxEndpoint::Connection& connection);

  std::shared_ptr<UcxContext> context;
  UcxWorkerOptions options;
  ucp_worker_h handle = nullptr;
  std::vector<std::byte> address;
  size_t max_header = 0;
  int event_fd = -1;  // UCX's.
  int wake_fd = -1;   // Ours.
  std::atomic<bool> woken{false};
  std::atomic<bool> sleeping{false};
  std::vector<std::unique_ptr<HandlerEntry>> handlers;
  std::list<Transfer> transfers;
  std::list<Transfer> abandoned;  // Their `done` has run; UCX may yet call back.
  std::list<std::unique_ptr<UcxEndpoint::Connection>> closing;
  int depth = 0;  // Calls into UCX on the stack that may call back.
  bool ending = false;
};

}  // namespace passband::transport
