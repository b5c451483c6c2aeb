// Server: who owns whom, and in which order they start and stop.
//
//   start: store -> tables -> data plane -> gRPC -> HTTP -> ready
//   stop:  not ready, health NOT_SERVING -> answer what is under way (stop_timeout)
//          -> seal what is open (with a spill directory) -> gRPC -> sessions -> data plane -> HTTP -> store
//
// Threads    Start, Stop and the destructor on one thread; the rest safe.
// Ownership  owns everything it runs.
// Errors     of Start: what cannot be had, and which setting to change.
#pragma once

#include <memory>

#include "base/status.h"
#include "kvstore/store.h"
#include "services/server/ready_file.h"
#include "services/server/settings.h"

namespace passband::server {

class Server {
 public:
  // Returns when it is ready, and has written the ready file.
  static StatusOr<std::unique_ptr<Server>> Start(const Settings& settings);
  // Stop(), if nobody did.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Lets requests under way finish, for the settings' stop_timeout at most. Idempotent.
  void Stop();

  const Endpoints& endpoints() const;
  Store& store();

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace passband::server
