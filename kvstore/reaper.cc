#include "kvstore/reaper.h"

#include <utility>

#include "base/thread.h"

namespace passband {

Reaper::Reaper(Duration interval, std::function<void()> reap)
    : interval_(interval),
      reap_(std::move(reap)),
      thread_(StartThread("pb-reap", [this](const std::stop_token& stop) { Run(stop); })) {}

Reaper::~Reaper() = default;

void Reaper::Run(const std::stop_token& stop) {
  while (true) {
    {
      const MutexLock lock(mutex_);
      wake_.wait_for(mutex_, stop, interval_, [] { return false; });
    }
    if (stop.stop_requested()) return;
    reap_();
  }
}

}  // namespace passband
