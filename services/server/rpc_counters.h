// RpcCounters: how often each call of the control plane was made, how it ended, how long it took.
//
// Threads  safe; relaxed atomics.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "services/server/counters.h"

namespace passband::server {

// In the order of the services' definitions.
enum class Rpc : uint8_t {
  kConnect,
  kHeartbeat,
  kDisconnect,
  kRegisterModel,
  kListModels,
  kRegisterProfile,
  kListProfiles,
  kOpenSequence,
  kForkSequence,
  kExtendSequence,
  kTruncateSequence,
  kSealSequence,
  kPinSequence,
  kUnpinSequence,
  kCloseSequence,
  kStatSequence,
  kListSequences,
  kLookup,
  kInfo,
  kListAllSequences,
  kInspectSequence,
  kDrain,
};
inline constexpr size_t kRpcs = 22;
const char* Name(Rpc rpc);

class RpcCounters {
 public:
  void Record(Rpc rpc, StatusCode code, double seconds) {
    counters_[Index(rpc)].Record(code, seconds);
  }
  const RequestCounters& of(Rpc rpc) const { return counters_[Index(rpc)]; }

 private:
  std::array<RequestCounters, kRpcs> counters_;
};

}  // namespace passband::server
