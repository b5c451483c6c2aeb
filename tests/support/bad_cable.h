// BadCable: a second cable between the ends of a Network, on which packets are lost, come late,
// overtake each other or come twice. While it is used, all packets between the ends take it, those
// of open connections too: no program sees anything but what goes wrong.
//
// The cable is this process: it carries packets from one TUN device to another. So it is on every
// kernel that has TUN (few small ones have sch_netem), draws what it does from a seed, and counts.
//
// Units      shares of the packets, 0 to 1.
// Threads    one at a time; one thread of its own carries packets.
// Ownership  the network must outlive it; the destructor takes the cable away.
// Errors     kFailedPrecondition says what is missing.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>

#include "base/mutex.h"
#include "base/status.h"
#include "tests/support/network.h"

namespace passband::test {

class BadCable {
 public:
  struct Faults {
    double lost = 0;
    double late = 0;  // by a time that is drawn, `late_by` at most: others overtake it
    double twice = 0;
    std::chrono::microseconds late_by{};
  };
  struct Counts {
    uint64_t carried = 0;  // taken from the one end
    uint64_t lost = 0;
    uint64_t late = 0;
    uint64_t overtaken = 0;  // late ones before which a later one was delivered
    uint64_t twice = 0;
  };

  static StatusOr<std::unique_ptr<BadCable>> Create(const Network& network, uint64_t seed);
  ~BadCable();
  BadCable(const BadCable&) = delete;
  BadCable& operator=(const BadCable&) = delete;

  // Packets take this cable from now on, and the good one again after Leave.
  Status Use(const Faults& faults);
  Status Leave();
  Counts counts() const;

 private:
  class Carrier;

  explicit BadCable(const Network& network);
  Status Build(uint64_t seed);
  Status Route(const char* verb, Network::End end) const;

  const Network& network_;
  std::unique_ptr<Carrier> carrier_;
  std::jthread thread_;  // last: it uses the carrier
};

}  // namespace passband::test
