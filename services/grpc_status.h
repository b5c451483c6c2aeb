// StatusToGrpc: a Status as a gRPC call returns it.
//
// Codes of both are the same numbers. A retry-after travels in the trailing metadata
// "passband-retry-after-ms". An error also carries "passband-answered": UNAVAILABLE without it
// is gRPC's own, and means that nobody is there.
//
// Threads  safe.
#pragma once

#include <grpcpp/support/status.h>

#include "base/status.h"

namespace grpc {
class ServerContextBase;
}

namespace passband {

inline constexpr char kRetryAfterMetadata[] = "passband-retry-after-ms";
inline constexpr char kAnsweredMetadata[] = "passband-answered";

// Longer messages are cut: trailing metadata has a limit, and a lost status tells nothing.
inline constexpr size_t kMaxStatusText = 1024;

grpc::Status StatusToGrpc(const Status& status);

// Also adds the call's trailing metadata.
grpc::Status StatusToGrpc(const Status& status, grpc::ServerContextBase& context);

}  // namespace passband
