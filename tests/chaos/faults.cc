#include "tests/chaos/faults.h"

namespace passband::chaos {

using std::chrono::milliseconds;

const char* Name(FaultKind kind) {
  switch (kind) {
    case FaultKind::kKillServer:
      return "kill server";
    case FaultKind::kPauseServer:
      return "pause server";
    case FaultKind::kPauseWorker:
      return "pause worker";
    case FaultKind::kKillWorker:
      return "kill worker";
    case FaultKind::kPartition:
      return "partition";
    case FaultKind::kBadCable:
      return "bad cable";
    case FaultKind::kFullDisk:
      return "full disk";
    case FaultKind::kPressure:
      return "memory pressure";
    case FaultKind::kCount:
      break;
  }
  return "?";
}

Fault FaultSchedule::Next() {
  if (turn_.empty()) {
    turn_ = kinds_;
    for (size_t i = turn_.size() - 1; i > 0; --i) std::swap(turn_[i], turn_[Between(0, i)]);
  }
  Fault out;
  out.kind = turn_.back();
  turn_.pop_back();
  out.worker = static_cast<uint32_t>(Between(0, workers_ - 1));
  out.coin = Between(0, 1) == 1;
  // Some shorter than a deadline, some longer, some longer than the lease.
  const bool is_kill = out.kind == FaultKind::kKillServer || out.kind == FaultKind::kKillWorker;
  out.lasts = is_kill ? milliseconds(Between(0, 300))
                      : milliseconds(Between(50, static_cast<uint64_t>(longest_.count())));
  if (out.kind == FaultKind::kFullDisk || out.kind == FaultKind::kPressure ||
      out.kind == FaultKind::kBadCable) {
    out.lasts += milliseconds(700);  // To be felt, writers must first have written.
  }
  out.rest = milliseconds(Between(100, 900));
  return out;
}

}  // namespace passband::chaos
