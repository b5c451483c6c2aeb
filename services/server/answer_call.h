// AnswerCall: what every call over gRPC has in common: it is made, counted, and finished.
//
// Threads  safe; runs on gRPC's threads.
#pragma once

#include <grpcpp/grpcpp.h>

#include "base/clock.h"
#include "base/log.h"
#include "services/grpc_status.h"
#include "services/server/rpc_counters.h"

namespace passband::server {

// body() -> Status.
template <typename Body>
grpc::ServerUnaryReactor* AnswerCall(RpcCounters& rpcs, grpc::CallbackServerContext& context,
                                     Rpc rpc, const Body& body) {
  const Time start = std::chrono::steady_clock::now();
  const Status status = body();
  rpcs.Record(rpc, status.code(), Seconds(std::chrono::steady_clock::now() - start));
  if (!status.ok()) log::Debug("call_failed", {{"method", Name(rpc)}, {"status", status}});
  grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
  reactor->Finish(StatusToGrpc(status, context));
  return reactor;
}

}  // namespace passband::server
