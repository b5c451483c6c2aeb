#include "services/grpc_status.h"

#include <grpcpp/server_context.h>

#include <string>

namespace passband {

static_assert(static_cast<int>(grpc::StatusCode::UNAUTHENTICATED) ==
              static_cast<int>(StatusCode::kUnauthenticated));
static_assert(static_cast<int>(grpc::StatusCode::RESOURCE_EXHAUSTED) ==
              static_cast<int>(StatusCode::kResourceExhausted));

grpc::Status StatusToGrpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code()), Message(status).substr(0, kMaxStatusText)};
}

grpc::Status StatusToGrpc(const Status& status, grpc::ServerContextBase& context) {
  if (!status.ok()) context.AddTrailingMetadata(kAnsweredMetadata, "1");
  if (const auto after = RetryAfter(status); after.has_value()) {
    context.AddTrailingMetadata(kRetryAfterMetadata, std::to_string(after->count()));
  }
  return StatusToGrpc(status);
}

}  // namespace passband
