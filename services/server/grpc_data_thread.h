// GrpcDataThread: one thread that serves rows over gRPC: data_thread.h without UCX.
//
//     mail    -> calls that arrived are checked, resolved, queued; written replies give memory back
//     a slice -> 512 rows of one reply are gathered (or encoded); the last one answers the call
//     idle    -> sleeps until there is mail
//
// Threads    all is done on the thread itself; the public calls are safe from any other.
// Ownership  owns everything it works with but what Parts refers to, which must outlive it. End
//            the gRPC server first: it holds bytes of replies.
// Errors     those of the memory it takes, from Start.
#pragma once

#include <future>
#include <memory>
#include <thread>

#include "absl/container/flat_hash_map.h"
#include "base/status.h"
#include "services/server/dispatcher.h"
#include "services/server/grpc_connection.h"
#include "services/server/grpc_mailbox.h"

namespace passband::server {

class GrpcDataThread {
 public:
  struct Options {
    uint64_t staging_bytes = 0;
    bool huge_pages = true;
    Transport transport = Transport::kGrpc;  // as metrics call it
  };

  static StatusOr<std::unique_ptr<GrpcDataThread>> Start(const Options& options,
                                                         const Dispatcher::Parts& parts);
  // Stops at once; what is under way ends as cancelled.
  ~GrpcDataThread();
  GrpcDataThread(const GrpcDataThread&) = delete;
  GrpcDataThread& operator=(const GrpcDataThread&) = delete;

  const std::shared_ptr<GrpcMailbox>& mailbox() const { return mailbox_; }

 private:
  struct Core;

  GrpcDataThread() = default;
  void Run(const std::stop_token& stop, std::unique_ptr<Core> core) const;
  static void ReadMail(Core& core, GrpcMailbox::Mail mail);
  static void Serve(Core& core, GrpcMailbox::Arrival arrival);

  const std::shared_ptr<GrpcMailbox> mailbox_ = std::make_shared<GrpcMailbox>();
  std::jthread thread_;  // Last: it uses everything above.
};

}  // namespace passband::server
