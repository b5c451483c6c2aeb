// Goal: every status crosses gRPC with its code, its text and its retry-after.
#include "services/grpc_status.h"

#include <grpcpp/grpcpp.h>

#include "gtest/gtest.h"

namespace passband {
namespace {

TEST(GrpcStatusTest, OkIsOk) { EXPECT_TRUE(StatusToGrpc(OkStatus()).ok()); }

TEST(GrpcStatusTest, EveryCodeKeepsItsNameAndText) {
  const std::pair<StatusCode, grpc::StatusCode> kCodes[] = {
      {StatusCode::kCancelled, grpc::CANCELLED},
      {StatusCode::kUnknown, grpc::UNKNOWN},
      {StatusCode::kInvalidArgument, grpc::INVALID_ARGUMENT},
      {StatusCode::kDeadlineExceeded, grpc::DEADLINE_EXCEEDED},
      {StatusCode::kNotFound, grpc::NOT_FOUND},
      {StatusCode::kAlreadyExists, grpc::ALREADY_EXISTS},
      {StatusCode::kPermissionDenied, grpc::PERMISSION_DENIED},
      {StatusCode::kResourceExhausted, grpc::RESOURCE_EXHAUSTED},
      {StatusCode::kFailedPrecondition, grpc::FAILED_PRECONDITION},
      {StatusCode::kAborted, grpc::ABORTED},
      {StatusCode::kOutOfRange, grpc::OUT_OF_RANGE},
      {StatusCode::kUnimplemented, grpc::UNIMPLEMENTED},
      {StatusCode::kInternal, grpc::INTERNAL},
      {StatusCode::kUnavailable, grpc::UNAVAILABLE},
      {StatusCode::kDataLoss, grpc::DATA_LOSS},
      {StatusCode::kUnauthenticated, grpc::UNAUTHENTICATED},
  };
  for (const auto& [ours, theirs] : kCodes) {
    const grpc::Status status = StatusToGrpc(Error(ours, "sequence {}", 7));
    EXPECT_EQ(status.error_code(), theirs);
    EXPECT_EQ(status.error_message(), "sequence 7");
  }
}

TEST(GrpcStatusTest, LongTextIsCut) {
  const grpc::Status status = StatusToGrpc(Status(StatusCode::kInternal, std::string(9000, 'x')));
  EXPECT_EQ(status.error_message().size(), kMaxStatusText);
}

}  // namespace
}  // namespace passband
