// Request: one data-plane message that has proved who sent it, until it is answered.
//
//     made -> Reply | Fail
//
// Either counts it. One that is destroyed unanswered (its connection went away, or the server
// stops) counts as cancelled, so that nothing vanishes from the metrics.
//
// Units      times of the steady clock.
// Threads    its data thread.
// Ownership  shares its connection, as one of its outstanding requests, and its way back.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "services/server/connection.h"
#include "services/server/counters.h"
#include "services/server/reply_path.h"
#include "transport/wire.h"

namespace passband::server {

class Request {
 public:
  Request(std::shared_ptr<Connection> connection, std::shared_ptr<ReplyPath> path,
          const transport::RequestHeader& header, Method method, Time arrival);
  Request(Request&&) noexcept = default;
  Request& operator=(Request&&) = delete;
  ~Request();

  Method method() const { return method_; }
  const std::string& tenant() const { return connection_->session().tenant(); }
  Connection& connection() const { return *connection_; }
  Time deadline() const { return deadline_; }  // Time::max(): none
  bool wants_checksum() const { return (header_.flags & transport::kWantChecksum) != 0; }
  // kDeadlineExceeded once the client has given up, kCancelled when it is gone.
  Status CheckAlive(Time now) const;

  // Sends `rows` rows; the request ends. The payload must live until `done` has run.
  void Reply(std::span<const std::byte> payload, uint64_t rows, const transport::UcxMemory* memory,
             transport::Done done);
  // Sends an error; the request ends.
  void Fail(const Status& status);

 private:
  transport::ReplyHeader NewReply() const;
  // Gives the connection up: what follows is no longer this request's.
  std::shared_ptr<Connection> End();

  std::shared_ptr<Connection> connection_;  // null once it ended
  std::shared_ptr<ReplyPath> path_;
  transport::RequestHeader header_;
  Method method_;
  Time arrival_;
  Time deadline_;  // Time::max(): none
};

}  // namespace passband::server
