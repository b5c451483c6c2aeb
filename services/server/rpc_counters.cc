#include "services/server/rpc_counters.h"

namespace passband::server {

const char* Name(Rpc rpc) {
  static constexpr const char* kNames[kRpcs] = {
      "Connect",          "Heartbeat",     "Disconnect",   "RegisterModel", "ListModels",
      "RegisterProfile",  "ListProfiles",  "OpenSequence", "ForkSequence",  "ExtendSequence",
      "TruncateSequence", "SealSequence",  "PinSequence",  "UnpinSequence", "CloseSequence",
      "StatSequence",     "ListSequences", "Lookup",       "Info",          "ListAllSequences",
      "InspectSequence",  "Drain"};
  return kNames[Index(rpc)];
}

}  // namespace passband::server
