#include "services/server/operator_service.h"

#include <algorithm>
#include <set>

#include "base/log.h"
#include "services/server/answer_call.h"
#include "services/server/control_messages.h"

namespace passband::server {
namespace {

constexpr uint32_t kDefaultListed = 1000;
constexpr uint32_t kMaxListed = 10'000;

}  // namespace

template <typename Body>
grpc::ServerUnaryReactor* OperatorService::Answer(Context* context, Rpc rpc, const Body& body) {
  return AnswerCall(parts_.rpcs, *context, rpc, [&]() -> Status {
    const StatusOr<std::string> caller =
        CheckOperator(parts_.policy, *context->auth_context(), context->peer());
    if (!caller.ok()) {
      log::Warn("operator_refused",
                {{"method", Name(rpc)}, {"peer", context->peer()}, {"why", caller.status()}});
      return caller.status();
    }
    return body(*caller);
  });
}

grpc::ServerUnaryReactor* OperatorService::ListAllSequences(
    Context* context, const v1::ListAllSequencesRequest* request,
    v1::ListAllSequencesResponse* response) {
  return Answer(context, Rpc::kListAllSequences, [&](const std::string&) {
    const uint32_t limit =
        request->limit() == 0 ? kDefaultListed : std::min(request->limit(), kMaxListed);
    auto infos =
        parts_.store.List(request->tenant(), SequenceId{request->after()}, uint64_t{limit} + 1);
    response->set_more(infos.size() > limit);
    infos.resize(std::min<size_t>(infos.size(), limit));
    std::set<std::string> models;
    for (const SequenceInfo& info : infos) {
      ToMessage(info, *response->add_sequences());
      models.insert(info.model);
    }
    for (const std::string& fingerprint : models) {
      const auto model = parts_.models.Find(fingerprint);
      if (model.ok()) ToMessage(*model, *response->add_models());
    }
    return OkStatus();
  });
}

Status OperatorService::Inspect(SequenceId id, v1::InspectSequenceResponse& response) const {
  const auto found = id.value() == 0 ? std::vector<SequenceInfo>()
                                     : parts_.store.List("", SequenceId{id.value() - 1}, 1);
  if (found.empty() || found.front().id != id) {
    return Error(StatusCode::kNotFound,
                 "there is no sequence {}; passband ls shows those there are", id.value());
  }
  const SequenceInfo& info = found.front();
  ToMessage(info, *response.mutable_sequence());
  if (const auto model = parts_.models.Find(info.model); model.ok()) {
    ToMessage(*model, *response.mutable_model());
  }
  if (const auto owner = parts_.sessions.Find(info.owner.value()); owner != nullptr) {
    response.mutable_owner()->set_session(owner->id());
    response.mutable_owner()->set_client(owner->client());
    response.mutable_owner()->set_connection_lost(owner->connection_lost());
  }
  return OkStatus();
}

grpc::ServerUnaryReactor* OperatorService::InspectSequence(
    Context* context, const v1::InspectSequenceRequest* request,
    v1::InspectSequenceResponse* response) {
  return Answer(context, Rpc::kInspectSequence, [&](const std::string&) {
    return Inspect(SequenceId{request->sequence()}, *response);
  });
}

grpc::ServerUnaryReactor* OperatorService::Drain(Context* context, const v1::DrainRequest*,
                                                 v1::DrainResponse* response) {
  return Answer(context, Rpc::kDrain, [&](const std::string& caller) {
    log::Info("drain_asked", {{"operator", caller}, {"peer", context->peer()}});
    parts_.lifecycle.BeginDraining();
    response->set_open_sequences(parts_.store.Stats().sequences_open);
    response->set_sessions(parts_.sessions.size());
    return OkStatus();
  });
}

}  // namespace passband::server
