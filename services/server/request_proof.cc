#include "services/server/request_proof.h"

#include "transport/codec.h"

namespace passband::server {

std::optional<TransportError> FaultOf(Session& session, const transport::RequestHeader& header,
                                      std::span<const std::byte> bytes,
                                      std::span<const std::byte> payload) {
  if (header.epoch != session.epoch()) return TransportError::kStaleEpoch;
  if (!transport::VerifyMac(session.secret(), bytes, payload)) return TransportError::kWrongMac;
  if (!session.TakeRequestId(header.request_id)) return TransportError::kReplayed;
  return std::nullopt;
}

Status ToStatus(TransportError fault) {
  switch (fault) {
    case TransportError::kStaleEpoch:
      return Error(StatusCode::kUnauthenticated, "the epoch is of another start of the server");
    case TransportError::kWrongMac:
      return Error(StatusCode::kUnauthenticated,
                   "the message is not signed with this session's key");
    case TransportError::kReplayed:
      return Error(StatusCode::kUnauthenticated,
                   "the request id was used before, or is too far behind: give each request a "
                   "higher one");
    case TransportError::kUnknownSession:
      return Error(StatusCode::kUnauthenticated, "no such session, or it has ended; connect again");
    default:
      return Error(StatusCode::kInvalidArgument, "the message is refused: {}", Name(fault));
  }
}

}  // namespace passband::server
