#include "kvstore/restorer.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/thread.h"

namespace passband {
namespace {

// A job larger than this part of the arena would leave none for what is being written.
constexpr double kLargestJob = 0.75;
// How long a job waits for a slot at most, if its deadline leaves it so long.
constexpr std::chrono::milliseconds kSlotWait{500};
constexpr std::chrono::milliseconds kRetryAfter{50};

}  // namespace

struct Restorer::Job {
  Job(size_t parts, Time its_deadline, RestoreDone its_done)
      : deadline(its_deadline), done(std::move(its_done)), left(parts) {}

  const Time deadline;
  const RestoreDone done;
  Mutex mutex;
  size_t left ABSL_GUARDED_BY(mutex);
  Status status ABSL_GUARDED_BY(mutex);
  RestoreHold hold ABSL_GUARDED_BY(mutex);
  std::atomic<bool> failed{false};  // what is left of it need not be read
};

Restorer::Restorer(BlockHome& home, BlockPool& pool, uint32_t threads) : home_(home), pool_(pool) {
  for (uint32_t i = 0; i < std::max(1u, threads); ++i) {
    threads_.push_back(
        StartThread("pb-restore", [this](const std::stop_token& stop) { Run(stop); }));
  }
}

Restorer::~Restorer() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  threads_.clear();
}

void Restorer::Start(const MissingBlocks& missing, Time deadline, RestoreDone done) {
  jobs_.fetch_add(1, std::memory_order_relaxed);
  const auto largest =
      static_cast<uint64_t>(static_cast<double>(home_.arena().bytes()) * kLargestJob);
  if (missing.block_bytes() > largest) {
    failures_.fetch_add(1, std::memory_order_relaxed);
    return done(Error(StatusCode::kResourceExhausted,
                      "blocks of {} bytes to be restored for one call, of {} in all: ask for "
                      "fewer rows at once",
                      missing.block_bytes(), home_.arena().bytes()),
                {});
  }
  if (missing.empty()) return done(OkStatus(), {});
  pending_jobs_.fetch_add(1, std::memory_order_relaxed);
  const auto job = std::make_shared<Job>(missing.parts().size(), deadline, std::move(done));
  MutexLock lock(mutex_);
  for (const MissingBlocks::Part& part : missing.parts()) queue_.push_back({job, part});
  wake_.notify_all();
}

void Restorer::Run(const std::stop_token& stop) {
  Task task;
  while (NextTask(stop, task)) Serve(std::move(task));
}

// After a stop, what is queued is still served: with an error.
bool Restorer::NextTask(const std::stop_token&, Task& task) {
  MutexLock lock(mutex_);
  while (true) {
    while (queue_.empty()) {
      if (stopping_) return false;
      wake_.wait(mutex_);
    }
    task = std::move(queue_.front());
    queue_.pop_front();
    const auto [at, free] = busy_.try_emplace(task.part.block.get());
    if (free) return true;
    at->second.push_back(std::move(task));
  }
}

void Restorer::Serve(Task task) {
  const BlockRef block = task.part.block;  // what waits for it claims it as well
  while (true) {
    const Status status = Restore(task);
    End(task, status);
    MutexLock lock(mutex_);
    const auto found = busy_.find(block.get());
    if (found->second.empty()) {
      busy_.erase(found);
      return;
    }
    task = std::move(found->second.back());
    found->second.pop_back();
  }
}

Status Restorer::Restore(const Task& task) {
  if (task.job->failed.load(std::memory_order_relaxed)) {
    return Error(StatusCode::kCancelled, "another block of the request could not be restored");
  }
  {
    MutexLock lock(mutex_);
    if (stopping_) return Error(StatusCode::kCancelled, "the store is closing");
  }
  if (std::chrono::steady_clock::now() >= task.job->deadline) {
    return Error(StatusCode::kDeadlineExceeded, "sequence {} layer {}: not restored in time",
                 task.part.sequence, task.part.layer);
  }
  Block& block = *task.part.block.get();
  PlaneSet loaded = 0;
  if (block.TryPin(loaded)) {
    const PlaneSet lacking = task.part.planes & ~loaded;
    const Status status = lacking == 0 ? OkStatus() : ReadPlanes(task, lacking, block.data());
    if (!status.ok()) {
      Pin dropped(&block);
      return status;
    }
    if (lacking != 0) block.AddPlanes(lacking);
    return OkStatus();
  }
  PASSBAND_ASSIGN_OR_RETURN(std::byte* const slot, WaitForSlot(block, task.job->deadline));
  if (Status status = ReadPlanes(task, task.part.planes, slot); !status.ok()) {
    home_.FreeSlot(slot);
    return status;
  }
  block.BecomeResident(slot, task.part.planes);
  blocks_.fetch_add(1, std::memory_order_relaxed);
  return OkStatus();
}

StatusOr<std::byte*> Restorer::WaitForSlot(Block& block, Time deadline) {
  const Time until = std::min(deadline, std::chrono::steady_clock::now() + kSlotWait);
  while (true) {
    StatusOr<std::byte*> slot = pool_.TakeSlot(block);
    if (slot.ok()) return slot;
    if (std::chrono::steady_clock::now() >= until) {
      return WithRetryAfter(Annotate(slot.status(), "restoring"), kRetryAfter);
    }
    home_.WaitForRoom(until);
  }
}

Status Restorer::ReadPlanes(const Task& task, PlaneSet planes, std::byte* slot) {
  Block& block = *task.part.block.get();
  const StatusOr<bool> got =
      home_.tier()->Get(block.address(), block.planes(), planes, {slot, block.bytes()});
  if (got.ok() && *got) {
    const auto count = static_cast<uint64_t>(__builtin_popcountll(planes));
    plane_reads_.fetch_add(count, std::memory_order_relaxed);
    bytes_.fetch_add(count * (block.bytes() / block.planes()), std::memory_order_relaxed);
    return OkStatus();
  }
  if (got.ok()) return Lost(task, "no longer stored");
  if (got.status().code() == StatusCode::kDataLoss) return Lost(task, Message(got.status()));
  tier_errors_.fetch_add(1, std::memory_order_relaxed);
  return Annotate(got.status(),
                  fmt::format("sequence {} layer {}", task.part.sequence, task.part.layer));
}

Status Restorer::Lost(const Task& task, const std::string& why) {
  const MissingBlocks::Part& part = task.part;
  if (part.block->MarkLost()) lost_blocks_.fetch_add(1, std::memory_order_relaxed);
  return Error(StatusCode::kDataLoss, "sequence {} layer {} tokens [{}, {}): {}", part.sequence,
               part.layer, part.first_token, part.first_token + kBlockTokens, why);
}

void Restorer::End(Task& task, const Status& status) {
  const std::shared_ptr<Job> job = std::move(task.job);
  Status outcome;
  RestoreHold hold;
  {
    MutexLock lock(job->mutex);
    if (status.ok()) job->hold.emplace_back(task.part.block.get());
    if (!status.ok() && !job->failed.exchange(true)) job->status = status;
    if (--job->left > 0) return;
    outcome = job->status;
    hold = std::move(job->hold);
  }
  if (!outcome.ok()) {
    failures_.fetch_add(1, std::memory_order_relaxed);
    hold.clear();
  }
  pending_jobs_.fetch_sub(1, std::memory_order_relaxed);
  job->done(outcome, std::move(hold));
}

Restorer::Stats Restorer::stats() const {
  return {.jobs = jobs_.load(std::memory_order_relaxed),
          .blocks = blocks_.load(std::memory_order_relaxed),
          .plane_reads = plane_reads_.load(std::memory_order_relaxed),
          .bytes = bytes_.load(std::memory_order_relaxed),
          .failures = failures_.load(std::memory_order_relaxed),
          .lost_blocks = lost_blocks_.load(std::memory_order_relaxed),
          .tier_errors = tier_errors_.load(std::memory_order_relaxed),
          .pending_jobs = pending_jobs_.load(std::memory_order_relaxed)};
}

}  // namespace passband
