// ControlCall: what calls of the control plane to one passband-server have in common: a deadline,
// and what a failure means.
//
// Threads  safe; pure functions.
// Errors   the server's own, and kUnavailable when it cannot be reached, with what to do.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <chrono>

#include "base/status.h"
#include "sdk/grpc_channel.h"

namespace passband {

// A call's outcome, with the retry-after that came with it. `what`: the call, in a word or two.
// Tells a server that says no from one that is not there.
Status ControlStatus(const grpc::Status& status, const grpc::ClientContext& context,
                     const GrpcTarget& target, const char* what);

// Whether an error is the server's own word, not that it cannot be reached. Of kUnavailable
// alone it is not clear without.
bool IsAnswer(const Status& status);

inline void SetTimeout(grpc::ClientContext& context, std::chrono::milliseconds timeout) {
  context.set_deadline(std::chrono::system_clock::now() + timeout);
}

}  // namespace passband
