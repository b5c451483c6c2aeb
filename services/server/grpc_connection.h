// GrpcConnection: the account of one session's calls over gRPC. Each call answers for itself.
//
// Threads    its data thread.
// Ownership  connection.h.
#pragma once

#include <memory>

#include "services/server/connection.h"

namespace passband::server {

class GrpcConnection final : public Connection {
 public:
  GrpcConnection(std::shared_ptr<Session> session, ThreadCounters& counters, Transport transport)
      : Connection(std::move(session), counters, transport) {
    CountOpen();
    LogOpened();
  }
  ~GrpcConnection() override { Close(); }

  void Close() override {
    if (open_) CountClosed();
    open_ = false;
  }
  bool open() const override { return open_; }

 private:
  bool open_ = true;
};

}  // namespace passband::server
