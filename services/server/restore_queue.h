// RestoreQueue: requests whose rows are not all in RAM, until they are.
//
//     Push -> the store brings the blocks back, on threads of its own
//     RunReady -> the rows are looked up again: served, or more is brought back, or it fails
//
// What was brought back for a request stays pinned until it is served: every round needs less.
//
// Threads    its data thread. `wake` is called from others.
// Ownership  owns the requests; the store must outlive it.
// Errors     answered, not returned: those of Store::Restore; kResourceExhausted with a
//            retry-after beyond kMaxWaiting; kDeadlineExceeded.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "kvstore/store.h"
#include "services/server/request.h"

namespace passband::server {

class RestoreQueue {
 public:
  static constexpr size_t kMaxWaiting = 256;

  // Looks the rows up, or adds what is missing. Then serves them.
  using Find = std::function<Status(const Request&, PinnedRows&, MissingBlocks&)>;
  using Serve = std::function<void(Request, PinnedRows)>;

  RestoreQueue(Store& store, std::function<void()> wake);
  ~RestoreQueue();
  RestoreQueue(const RestoreQueue&) = delete;
  RestoreQueue& operator=(const RestoreQueue&) = delete;

  void Push(Request request, const MissingBlocks& missing, Find find, Serve serve);
  // For a request that is refused, and will come again.
  void Promote(const MissingBlocks& missing);
  // False: nothing was brought back since.
  bool RunReady();

  size_t size() const { return calls_.size(); }

 private:
  struct Call {
    Request request;
    Find find;
    Serve serve;
    std::vector<RestoreHold> holds;
  };
  struct Ended {
    uint64_t call;
    Status status;
    RestoreHold hold;
  };
  // Shared with the store's threads, which may end behind this.
  struct Mail {
    std::atomic<bool> any{false};
    Mutex mutex;
    std::vector<Ended> ended ABSL_GUARDED_BY(mutex);
    std::function<void()> wake ABSL_GUARDED_BY(mutex);  // null once the queue is gone
  };

  void Restore(uint64_t call, const MissingBlocks& missing);
  void Continue(Ended ended);

  Store& store_;
  const std::shared_ptr<Mail> mail_ = std::make_shared<Mail>();
  uint64_t last_call_ = 0;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Call>> calls_;
};

}  // namespace passband::server
