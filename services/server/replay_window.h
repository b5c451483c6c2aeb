// ReplayWindow: which request ids a session has used. Each is good once, and only while it is
// among the newest kWidth; so a message that was overheard and sent again is refused.
//
// Units    request ids, from 1.
// Threads  not safe.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>

namespace passband::server {

class ReplayWindow {
 public:
  // Many times what a session may have under way: messages overtake one another.
  static constexpr uint64_t kWidth = 1024;

  // False: it was used before, or may have been.
  bool Take(uint64_t id) {
    if (id == 0) return false;
    if (id > newest_) {
      const uint64_t ahead = id - newest_;
      used_ = ahead < kWidth ? used_ << ahead : std::bitset<kWidth>();
      newest_ = id;
    }
    const uint64_t age = newest_ - id;
    if (age >= kWidth || used_[age]) return false;
    used_.set(age);
    return true;
  }

 private:
  std::bitset<kWidth> used_;  // by age
  uint64_t newest_ = 0;
};

}  // namespace passband::server
