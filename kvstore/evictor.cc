#include "kvstore/evictor.h"

#include <algorithm>
#include <chrono>

#include "base/thread.h"

namespace passband {
namespace {

constexpr size_t kBatch = 8;
// Dropped at a time: whoever allocates waits for no more.
constexpr uint64_t kDrop = 4 << 20;
constexpr std::chrono::milliseconds kIdle{200};
// Nothing could be done: everything is pinned, still being written, or the tier is not willing.
constexpr std::chrono::milliseconds kStuck{10};

uint64_t Share(uint64_t bytes, double share) {
  return static_cast<uint64_t>(static_cast<double>(bytes) * share);
}

}  // namespace

Evictor::Evictor(BlockHome& home, Spiller& spiller, const Options& options)
    : home_(home),
      spiller_(spiller),
      high_bytes_(Share(home.arena().bytes(), options.high)),
      low_bytes_(Share(home.arena().bytes(), options.low)),
      thread_(StartThread("pb-evict", [this](const std::stop_token& stop) { Run(stop); })) {}

Evictor::~Evictor() {
  thread_.request_stop();
  Wake();
  thread_.join();
}

void Evictor::Wake() {
  MutexLock lock(mutex_);
  wake_.notify_all();
}

void Evictor::Run(const std::stop_token& stop) {
  bool stuck = false;
  while (!stop.stop_requested()) {
    {
      MutexLock lock(mutex_);
      const Time until = std::chrono::steady_clock::now() + (stuck ? kStuck : kIdle);
      // While stuck, kicks would only find it stuck again.
      while (!stop.stop_requested() && (stuck || !kicked_.load())) {
        if (wake_.wait_until(mutex_, until) == std::cv_status::timeout) break;
      }
    }
    kicked_.store(false);
    while (!stop.stop_requested() && Step()) {
    }
    stuck = AboveMarks();
  }
}

bool Evictor::Step() {
  const uint64_t used = home_.arena().used_bytes();
  const bool above_high = used > high_bytes_;
  const uint64_t excess = above_high ? std::min(used - high_bytes_, kDrop) : 0;
  if (above_high &&
      home_.DropClean(excess, 0, BlockHome::Whose::kPayers, BlockHome::Which::kCold) > 0)
    return true;
  const bool starved = starved_.exchange(false, std::memory_order_relaxed);
  const bool above_low = used - std::min(used, home_.clean_bytes()) > low_bytes_;
  if (!starved && !above_low && !above_high) return false;
  if (!spiller_.willing()) return false;
  bool written = false;
  for (const BlockRef& block : home_.ColdDirty(kBatch)) {
    if (!spiller_.Write(*block.get()).ok()) return false;
    written = true;
    if (!above_high) continue;
    if (std::byte* const slot = block->Evict()) {
      home_.FreeSlot(slot);
      dirty_evictions_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  if (!written && above_high) return home_.DropClean(excess, 0, BlockHome::Whose::kAnyones) > 0;
  return written;
}

}  // namespace passband
