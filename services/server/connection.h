// Connection: one worker's way to a data thread, and what is under way for it.
//
// Threads    its data thread; session() is safe anywhere.
// Ownership  shared by whoever keeps connections and by requests under way.
#pragma once

#include <cstdint>
#include <memory>

#include "services/server/counters.h"
#include "services/server/session.h"

namespace passband::server {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // `counters` must outlive it.
  Connection(std::shared_ptr<Session> session, ThreadCounters& counters, Transport transport)
      : session_(std::move(session)), counters_(counters), transport_(transport) {}
  virtual ~Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Ends what is in flight. Idempotent.
  virtual void Close() = 0;
  virtual bool open() const = 0;

  Session& session() const { return *session_; }
  Transport transport() const { return transport_; }

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

 protected:
  // The gauge of open connections, which has a series for each transport.
  void CountOpen() { counters_.connections[Index(transport_)].Add(); }
  void CountClosed() { counters_.connections[Index(transport_)].Subtract(); }
  void SetTransport(Transport transport) { transport_ = transport; }
  // To the log, once the transport is known.
  void LogOpened() const;

 private:
  const std::shared_ptr<Session> session_;
  ThreadCounters& counters_;
  Transport transport_;
  uint32_t outstanding_ = 0;
  uint64_t staged_bytes_ = 0;
};

}  // namespace passband::server
