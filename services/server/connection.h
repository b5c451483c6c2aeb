// Connection: the way back to one worker: the endpoint to it, and what is under way for it.
//
// Units      times of the steady clock.
// Threads    its data thread; session() is safe anywhere.
// Ownership  shared by the router and by requests under way; the endpoint ends with Close(),
//            the object with the last request. Payloads are kept alive by `done`.
// Errors     sends on a closed connection end with kCancelled at once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "services/server/counters.h"
#include "services/server/session.h"
#include "transport/ucx_endpoint.h"
#include "transport/wire.h"

namespace passband::server {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // `counters` must outlive it.
  Connection(std::shared_ptr<Session> session, ThreadCounters& counters);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  Status Connect(const std::shared_ptr<transport::UcxWorker>& worker,
                 std::span<const std::byte> address, transport::UcxEndpoint::OnError on_lost);
  // Ends what is in flight. Idempotent.
  void Close();
  bool open() const { return endpoint_ != nullptr; }
  // Whether it is open and leads to the worker with this address.
  bool LeadsTo(std::span<const std::byte> address) const;

  Session& session() const { return *session_; }
  Transport transport() const { return transport_; }
  // Asks UCX which lane it is: once connected, and until it says a name.
  void LearnTransport();

  // Requests admitted and not yet answered.
  uint32_t outstanding() const { return outstanding_; }
  void AddOutstanding() { ++outstanding_; }
  void DropOutstanding() { --outstanding_; }
  // Reply memory that its requests hold.
  uint64_t staged_bytes() const { return staged_bytes_; }
  void AddStaged(uint64_t bytes) { staged_bytes_ += bytes; }
  void DropStaged(uint64_t bytes) { staged_bytes_ -= bytes; }
  void Count(Method method, StatusCode code, double seconds) {
    counters_.request(method, transport_).Record(code, seconds);
  }
  ThreadCounters& counters() const { return counters_; }

  // Sends whose end is not known yet.
  uint32_t sends() const { return sends_; }
  // Since when a send has been waiting for the peer; Time::max() while none is.
  Time oldest_send() const { return sends_ == 0 ? Time::max() : waiting_since_; }

  void Send(transport::MessageType type, std::span<const std::byte> header,
            std::span<const std::byte> payload, const transport::UcxMemory* memory,
            transport::Done done);

 private:
  const std::shared_ptr<Session> session_;
  ThreadCounters& counters_;
  std::vector<std::byte> address_;
  std::unique_ptr<transport::UcxEndpoint> endpoint_;
  Transport transport_ = Transport::kUnknown;
  uint32_t outstanding_ = 0;
  uint64_t staged_bytes_ = 0;
  uint32_t sends_ = 0;
  Time waiting_since_{};  // of the last sign of life while sends_ > 0
};

}  // namespace passband::server
