#include "sdk/control_call.h"

namespace passband {
namespace {

constexpr char kAnsweredMetadata[] = "passband-answered";
constexpr char kAnsweredPayload[] = "passband.answered";

}  // namespace

Status ControlStatus(const grpc::Status& status, const grpc::ClientContext& context,
                     const GrpcTarget& target, const char* what) {
  if (status.ok()) return OkStatus();
  const Status out = FromGrpc(status, context);
  const std::string& address = target.address;
  switch (out.code()) {
    case StatusCode::kUnavailable:
      if (context.GetServerTrailingMetadata().count(kAnsweredMetadata) > 0) {
        Status refusal =
            Annotate(out, fmt::format("passband-server at {} refuses ({})", address, what));
        refusal.SetPayload(kAnsweredPayload, absl::Cord());
        return refusal;
      }
      return Annotate(
          out, fmt::format(
                   "cannot reach passband-server at {}: start it or pass --server{} ({})", address,
                   target.encrypted() ? "; if it runs, see that each side's authority (--tls-ca, "
                                        "--tls-client-ca) signed the other's certificate"
                                      : "; if it demands TLS, pass --tls-ca",
                   what));
    case StatusCode::kUnauthenticated:
      return Annotate(out, fmt::format("passband-server at {} does not know this session: it was "
                                       "restarted, or the session expired; connect again ({})",
                                       address, what));
    case StatusCode::kDeadlineExceeded:
      return Annotate(
          out, fmt::format("passband-server at {} did not answer in time ({})", address, what));
    case StatusCode::kUnimplemented:
      return Annotate(out, fmt::format("what answers at {} is no passband-server, or one of "
                                       "another version ({})",
                                       address, what));
    default:
      return Annotate(out, what);
  }
}

bool IsAnswer(const Status& status) {
  return status.code() != StatusCode::kUnavailable ||
         status.GetPayload(kAnsweredPayload).has_value();
}

}  // namespace passband
