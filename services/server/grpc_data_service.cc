#include "services/server/grpc_data_service.h"

#include <utility>

#include "services/server/peer_identity.h"
#include "services/server/request_proof.h"

namespace passband::server {
namespace {

using transport::MessageType;

constexpr std::chrono::milliseconds kRetryAfter{5};

}  // namespace

grpc::ServerUnaryReactor* GrpcDataService::Fetch(Context* context, const Buffer* request,
                                                 Buffer* response) {
  return Accept(MessageType::kFetch, *context, *request, *response);
}

grpc::ServerUnaryReactor* GrpcDataService::Append(Context* context, const Buffer* request,
                                                  Buffer* response) {
  return Accept(MessageType::kAppend, *context, *request, *response);
}

grpc::ServerUnaryReactor* GrpcDataService::Slices(Context* context, const Buffer* request,
                                                  Buffer* response) {
  return Accept(MessageType::kSlices, *context, *request, *response);
}

grpc::ServerUnaryReactor* GrpcDataService::Read(Context* context, const Buffer* request,
                                                Buffer* response) {
  return Accept(MessageType::kRead, *context, *request, *response);
}

grpc::ServerUnaryReactor* GrpcDataService::Accept(MessageType type, Context& context,
                                                  const Buffer& request, Buffer& response) {
  const auto call = std::make_shared<GrpcCall>(context, request, response, sessions_.epoch());
  // Taken now: once the call is posted it may be answered, and forget it.
  Reactor* const reactor = call->reactor();
  StatusOr<GrpcMailbox::Arrival> arrival = Prove(type, context, call);
  if (!arrival.ok()) {
    call->Fail(arrival.status());
    return reactor;
  }
  GrpcMailbox& mailbox = *threads_[arrival->session->data_thread()]->mailbox();
  if (!mailbox.Post(*arrival)) {
    call->Fail(WithRetryAfter(
        Error(StatusCode::kResourceExhausted, "{} calls wait for the data thread, the limit",
              GrpcMailbox::kMaxArrivals),
        kRetryAfter));
  }
  return reactor;
}

StatusOr<GrpcMailbox::Arrival> GrpcDataService::Prove(MessageType type, const Context& context,
                                                      const std::shared_ptr<GrpcCall>& call) {
  const Time now = std::chrono::steady_clock::now();
  const auto header = call->Read(type);
  if (!header.ok()) {
    counters_.errors[Index(TransportError::kMalformed)].Add();
    return header.status();
  }
  std::shared_ptr<Session> session = sessions_.Find(header->session);
  if (session == nullptr) return Refuse(TransportError::kUnknownSession);
  if (const Status same = CheckCertificate(*session, *context.auth_context()); !same.ok()) {
    counters_.errors[Index(TransportError::kWrongCertificate)].Add();
    return same;
  }
  GrpcPayload& payload = call->payload();
  const auto signed_payload =
      type == MessageType::kFetch ? payload.data() : std::span<const std::byte>();
  const auto fault = FaultOf(*session, *header, payload.header(), signed_payload);
  if (fault.has_value()) return Refuse(*fault);
  return GrpcMailbox::Arrival{call, std::move(session), *header, now};
}

Status GrpcDataService::Refuse(TransportError error) {
  counters_.errors[Index(error)].Add();
  return ToStatus(error);
}

}  // namespace passband::server
