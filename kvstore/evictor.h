// Evictor: the thread that writes cold blocks behind, and makes room before it is needed.
//
// Above `low` it writes blocks to the tier, the coldest first, so that what has no copy below
// stays under the mark; above `high` blocks with a copy leave the arena. When somebody asked
// for a block and got none, it writes as well, whatever the marks say. Blocks of tenants that
// have more than their share (ram_shares.h) are written, and leave, before any others.
//
// Threads    one of its own. Kick may be called under any lock.
// Ownership  home and spiller must outlive it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <thread>

#include "base/mutex.h"
#include "kvstore/block_home.h"
#include "kvstore/spiller.h"

namespace passband {

class Evictor {
 public:
  struct Options {
    double high = 0.95;  // of the arena
    double low = 0.80;
  };

  Evictor(BlockHome& home, Spiller& spiller, const Options& options);
  ~Evictor();

  // Something was allocated, or could not be (`starved`).
  void Kick(bool starved) {
    if (starved) starved_.store(true, std::memory_order_relaxed);
    if (!starved && !AboveMarks()) return;
    if (!kicked_.exchange(true)) Wake();
  }

  uint64_t dirty_evictions() const { return dirty_evictions_.load(std::memory_order_relaxed); }

 private:
  bool AboveMarks() const {
    const uint64_t used = home_.arena().used_bytes();
    return used > high_bytes_ || used - std::min(used, home_.clean_bytes()) > low_bytes_;
  }
  void Wake();
  void Run(const std::stop_token& stop);
  // False when there is nothing to do, or nothing that can be done.
  bool Step();

  BlockHome& home_;
  Spiller& spiller_;
  const uint64_t high_bytes_;
  const uint64_t low_bytes_;
  std::atomic<bool> kicked_{false};
  std::atomic<bool> starved_{false};
  std::atomic<uint64_t> dirty_evictions_{0};
  Mutex mutex_;  // a leaf
  std::condition_variable_any wake_;
  std::jthread thread_;  // last: it uses the others
};

}  // namespace passband
