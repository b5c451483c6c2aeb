#include "sdk/operator_client.h"

#include "passband/v1/control.grpc.pb.h"
#include "passband/v1/operator.grpc.pb.h"
#include "sdk/control_call.h"
#include "sdk/control_messages.h"
#include "sdk/row_shape.h"

namespace passband {
namespace {

// A page of 10^4 sequences is about 2 MB.
constexpr int kMaxMessageBytes = 64 << 20;

ServerInfo ToInfo(const v1::InfoResponse& from) {
  return {
      .version = from.version(),
      .uptime_seconds = from.uptime_seconds(),
      .draining = from.draining(),
      .capacity_bytes = from.memory().capacity_bytes(),
      .used_bytes = from.memory().used_bytes(),
      .cached_bytes = from.memory().cached_bytes(),
      .sessions = from.sessions(),
      .sequences_open = from.sequences_open(),
      .sequences_sealed = from.sequences_sealed(),
      .stored_tokens = from.stored_tokens(),
      .prefix_lookup_tokens = from.prefix_lookup_tokens(),
      .prefix_hit_tokens = from.prefix_hit_tokens(),
      .fetched_rows = from.fetched_rows(),
      .fetched_bytes = from.fetched_bytes(),
      .selected_rows = from.selected_rows(),
      .hot_rows = from.hot_rows(),
      .full_attention_bytes = from.full_attention_bytes(),
      .transports = {from.transports().begin(), from.transports().end()},
      .http_address = from.http_address(),
  };
}

ModelSummary ToSummary(const v1::Model& from) {
  ModelSummary out{
      .fingerprint = from.fingerprint(),
      .name = from.name(),
      .layers = from.layers(),
      .kv_heads = from.kv_heads(),
      .head_dim = from.head_dim(),
      .rotary_dim = from.rotary_dim(),
      .dtype = from.dtype(),
      .rope_layout = from.rope_layout(),
  };
  // A dtype that this client does not know leaves the size open.
  if (const auto dtype = ParseDType(out.dtype); dtype.ok()) {
    out.token_bytes =
        uint64_t{2} * out.layers * out.kv_heads * out.head_dim * kernels::DTypeBytes(*dtype);
  }
  return out;
}

}  // namespace

struct OperatorClient::Impl {
  explicit Impl(const Options& given)
      : target{.address = given.address, .tls = given.tls, .server_name = given.server_name},
        timeout(given.timeout),
        channel(MakeGrpcChannel(target, kMaxMessageBytes)),
        control(v1::Control::NewStub(channel)),
        operators(v1::Operator::NewStub(channel)) {}

  template <typename Stub, typename Request, typename Response>
  StatusOr<Response> Call(Stub& stub,
                          grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                       Response*),
                          const Request& request, const char* what) {
    grpc::ClientContext context;
    SetTimeout(context, timeout);
    Response response;
    const grpc::Status status = (stub.*method)(&context, request, &response);
    if (!status.ok()) return ControlStatus(status, context, target, what);
    return response;
  }

  const GrpcTarget target;
  const std::chrono::milliseconds timeout;
  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<v1::Control::Stub> control;
  const std::unique_ptr<v1::Operator::Stub> operators;
};

OperatorClient::OperatorClient(const Options& options) : impl_(std::make_unique<Impl>(options)) {}

OperatorClient::~OperatorClient() = default;

StatusOr<ServerInfo> OperatorClient::Info() {
  PASSBAND_ASSIGN_OR_RETURN(
      const v1::InfoResponse response,
      impl_->Call(*impl_->control, &v1::Control::Stub::Info, v1::InfoRequest(), "info"));
  return ToInfo(response);
}

StatusOr<SequencePage> OperatorClient::List(const std::string& tenant, SequenceId after,
                                            uint32_t limit) {
  v1::ListAllSequencesRequest request;
  request.set_tenant(tenant);
  request.set_after(after.value());
  request.set_limit(limit);
  PASSBAND_ASSIGN_OR_RETURN(const v1::ListAllSequencesResponse response,
                            impl_->Call(*impl_->operators, &v1::Operator::Stub::ListAllSequences,
                                        request, "list sequences"));
  SequencePage page;
  for (const v1::Sequence& sequence : response.sequences()) {
    page.sequences.push_back(ToStat(sequence));
  }
  for (const v1::Model& model : response.models()) page.models.push_back(ToSummary(model));
  page.more = response.more();
  return page;
}

StatusOr<SequenceDetail> OperatorClient::Inspect(SequenceId sequence) {
  v1::InspectSequenceRequest request;
  request.set_sequence(sequence.value());
  PASSBAND_ASSIGN_OR_RETURN(const v1::InspectSequenceResponse response,
                            impl_->Call(*impl_->operators, &v1::Operator::Stub::InspectSequence,
                                        request, "inspect sequence"));
  SequenceDetail detail{.stat = ToStat(response.sequence()), .model = ToSummary(response.model())};
  if (response.has_owner()) {
    detail.owner = SequenceOwner{.session = response.owner().session(),
                                 .client = response.owner().client(),
                                 .connection_lost = response.owner().connection_lost()};
  }
  return detail;
}

Status OperatorClient::Drain() {
  return impl_->Call(*impl_->operators, &v1::Operator::Stub::Drain, v1::DrainRequest(), "drain")
      .status();
}

}  // namespace passband
