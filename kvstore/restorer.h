// Restorer: brings planes of blocks back from the tier.
//
// A job is a list of blocks and planes. Its blocks are taken in order, job after job, by a few
// threads; two jobs that want the same block share its slot, and what one has read the other
// does not read again. Every block of the job stays pinned from the moment it is back until the
// caller drops the RestoreHold, so that a call that is tried again finds all of them: a job
// ends, whatever else wants memory.
//
// Units      bytes.
// Threads    safe; `threads` of its own, on which the callbacks run: they should be short.
// Ownership  home and pool must outlive it. Jobs that have not ended when it is destroyed end
//            with kCancelled.
// Errors     kDataLoss           the tier does not have a block any more, or has it damaged;
//                                names the sequence, the layer and the tokens
//            kResourceExhausted  the job's blocks do not fit the arena; or, with a
//                                retry-after, there was no room in time
//            kDeadlineExceeded
//            kUnavailable        the tier's device fails
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "kvstore/block_home.h"
#include "kvstore/block_pool.h"
#include "kvstore/missing_blocks.h"

namespace passband {

// Pins what a job brought back. To be dropped before the store.
using RestoreHold = std::vector<Pin>;
using RestoreDone = std::function<void(const Status&, RestoreHold)>;

class Restorer {
 public:
  struct Stats {
    uint64_t jobs = 0;
    uint64_t blocks = 0;
    uint64_t plane_reads = 0;
    uint64_t bytes = 0;
    uint64_t failures = 0;     // jobs
    uint64_t lost_blocks = 0;  // each counted once
    uint64_t tier_errors = 0;
    uint64_t pending_jobs = 0;
  };

  Restorer(BlockHome& home, BlockPool& pool, uint32_t threads);
  ~Restorer();

  // `done` may run before this returns, when nothing has to be read.
  void Start(const MissingBlocks& missing, Time deadline, RestoreDone done);
  Stats stats() const;

 private:
  struct Job;
  struct Task {
    std::shared_ptr<Job> job;
    MissingBlocks::Part part;
  };

  void Run(const std::stop_token& stop);
  // The block is this thread's until it is back; tasks that come for it meanwhile wait.
  bool TakeBlock(Task& task);
  bool NextTask(const std::stop_token& stop, Task& task);
  void Serve(Task task);
  // Leaves the block pinned when it returns OK.
  Status Restore(const Task& task);
  Status ReadPlanes(const Task& task, PlaneSet planes, std::byte* slot);
  StatusOr<std::byte*> WaitForSlot(Block& block, Time deadline);
  void End(Task& task, const Status& status);
  Status Lost(const Task& task, const std::string& why);

  BlockHome& home_;
  BlockPool& pool_;
  std::atomic<uint64_t> jobs_{0};
  std::atomic<uint64_t> blocks_{0};
  std::atomic<uint64_t> plane_reads_{0};
  std::atomic<uint64_t> bytes_{0};
  std::atomic<uint64_t> failures_{0};
  std::atomic<uint64_t> lost_blocks_{0};
  std::atomic<uint64_t> tier_errors_{0};
  std::atomic<uint64_t> pending_jobs_{0};

  Mutex mutex_;  // a leaf
  std::condition_variable_any wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Task> queue_ ABSL_GUARDED_BY(mutex_);
  // Blocks that a thread is at work on, with the tasks that wait for it.
  absl::flat_hash_map<const Block*, std::vector<Task>> busy_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::jthread> threads_;  // last: they use the others
};

}  // namespace passband
