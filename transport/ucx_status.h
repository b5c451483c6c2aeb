// UCX's status codes and ours, either way.
//
// Threads    safe; pure.
#pragma once

#include <ucs/type/status.h>

#include "base/status.h"

namespace passband::transport {

// `what` names the call or the transfer. A lost connection is kUnavailable, a
// cancelled transfer kCancelled.
Status FromUcx(ucs_status_t status, const char* what);

// The code a refused sender gets. FromUcx gives the same absl code back for those
// UCX can say, kInternal for the others.
ucs_status_t ToUcx(StatusCode code);

}  // namespace passband::transport
