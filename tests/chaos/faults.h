// Faults: what a chaos run does to the service, in an order that its seed decides.
//
// Threads    plain values.
#pragma once

#include <chrono>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace passband::chaos {

enum class FaultKind : uint32_t {
  kKillServer,   // kill -9, and a start at the same ports after the time
  kPauseServer,  // SIGSTOP for the time
  kPauseWorker,
  kKillWorker,  // kill -9, in an append where there is one soon
  kPartition,   // the cable pulled at one end for the time
  kBadCable,    // packets lost, late, overtaken and twice, for the time
  kFullDisk,    // not a byte left for the spill directory, for the time
  kPressure,    // writers that only grow, for the time: RAM takes a part of what is in use
  kCount
};
inline constexpr size_t kFaultKinds = static_cast<size_t>(FaultKind::kCount);
const char* Name(FaultKind kind);

struct Fault {
  FaultKind kind = FaultKind::kKillServer;
  uint32_t worker = 0;
  // The far end of the cable; a worse cable; a crash after the disk was full.
  bool coin = false;
  std::chrono::milliseconds lasts{};
  std::chrono::milliseconds rest{};  // Before the next one.
};

class FaultSchedule {
 public:
  // Kinds take turns in random order: a run of any length has had nearly all of them.
  FaultSchedule(uint64_t seed, std::vector<FaultKind> kinds, uint32_t workers,
                std::chrono::milliseconds longest)
      : random_(seed), kinds_(std::move(kinds)), workers_(workers), longest_(longest) {}
  Fault Next();

 private:
  uint64_t Between(uint64_t low, uint64_t high) { return low + random_() % (high - low + 1); }

  std::mt19937_64 random_;
  const std::vector<FaultKind> kinds_;
  const uint32_t workers_;
  const std::chrono::milliseconds longest_;
  std::vector<FaultKind> turn_;
};

// What came of the faults of one kind.
struct FaultTally {
  uint64_t injected = 0;         // And seen to be: the process stood, the disk had no byte left.
  uint64_t failed_requests = 0;  // From its beginning until every worker was served.
  std::vector<double> recovery_seconds;  // From its end until every worker was served.
};

}  // namespace passband::chaos
