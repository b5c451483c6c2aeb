// DataThread: one thread of the data plane, with one UCX worker, its connections, its staging
// memory and the replies under way.
//
//     progress -> messages arrive, are checked, resolved, queued
//     a slice  -> 512 rows of one reply are gathered (or encoded); the last one sends it
//     idle     -> polls 20 us, then sleeps on the worker's descriptor
//
// Threads    all is done on the thread itself; the public calls are safe from any other.
// Ownership  owns everything it works with but what Parts refers to, which must outlive it.
// Errors     those of UCX and of the memory it takes, from Start.
#pragma once

#include <atomic>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "services/server/request_router.h"
#include "transport/ucx_context.h"

namespace passband::server {

class DataThread {
 public:
  struct Options {
    std::shared_ptr<transport::UcxContext> ucx;
    uint64_t staging_bytes = 0;
    bool huge_pages = true;
  };

  static StatusOr<std::unique_ptr<DataThread>> Start(const Options& options,
                                                     const Dispatcher::Parts& parts);
  // Stops at once; what is under way ends as cancelled.
  ~DataThread();
  DataThread(const DataThread&) = delete;
  DataThread& operator=(const DataThread&) = delete;

  // What clients connect to.
  std::span<const std::byte> address() const { return address_; }

  // Ends the session's connection, soon.
  void CloseSession(uint64_t session);
  // Refuses new requests; the future is ready once those under way are answered.
  std::future<void> Drain();

 private:
  struct Core;
  // What other threads want; read between two rounds of progress.
  struct Inbox {
    std::vector<uint64_t> closed_sessions;
    std::vector<std::promise<void>> drains;
  };

  DataThread() = default;
  void Run(const std::stop_token& stop, const Options& options, const Dispatcher::Parts& parts,
           std::promise<Status> started);
  static void Rest(Core& core);
  void Loop(const std::stop_token& stop, Core& core);
  void ReadInbox(Core& core);
  void Wake();
  void WakeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::vector<std::byte> address_;
  Mutex mutex_;
  Inbox inbox_ ABSL_GUARDED_BY(mutex_);
  // Not shared: the worker must end on its own thread. Null while there is none.
  transport::UcxWorker* worker_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::atomic<bool> mail_{false};
  std::jthread thread_;  // Last: it uses everything above.
};

}  // namespace passband::server
