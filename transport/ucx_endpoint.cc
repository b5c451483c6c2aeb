#include "transport/ucx_endpoint.h"

#include <ucp/api/ucp.h>

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "base/log.h"
#include "transport/worker_impl.h"

namespace passband::transport {
namespace {

bool StartsWith(const std::string& text, const char* prefix) { return text.rfind(prefix, 0) == 0; }

const char* KindOf(const std::string& transport) {
  if (transport == "tcp") return "tcp";
  if (transport == "self") return "self";
  if (transport == "posix" || transport == "sysv" || transport == "xpmem") return "shm";
  if (StartsWith(transport, "rc") || StartsWith(transport, "dc") || StartsWith(transport, "ud")) {
    return "rdma";
  }
  return "unknown";
}

// UCX's description of an endpoint has a line for every lane, such as
//   lane[0]:  2:posix/memory.0 md[1]  -> md[1]/posix/sysdev[255] am am_bw#0
// The one that says "am" carries active messages.
std::string TransportOf(const std::string& description) {
  std::istringstream lines(description);
  for (std::string line; std::getline(lines, line);) {
    if (line.find("lane[") == std::string::npos) continue;
    std::istringstream words(line.substr(line.find("lane[")));
    std::string lane, resource, word;
    words >> lane >> resource;
    bool carries_messages = false;
    while (words >> word) carries_messages |= word == "am";
    if (!carries_messages) continue;
    const size_t colon = resource.find(':');
    const size_t slash = resource.find('/');
    if (colon == std::string::npos || slash == std::string::npos || slash < colon) continue;
    return KindOf(resource.substr(colon + 1, slash - colon - 1));
  }
  return "unknown";
}

std::string Describe(ucp_ep_h endpoint) {
  char* text = nullptr;
  size_t bytes = 0;
  FILE* stream = open_memstream(&text, &bytes);
  if (stream == nullptr) return {};
  ucp_ep_print_info(endpoint, stream);
  std::fclose(stream);
  std::string out(text, bytes);
  std::free(text);
  return out;
}

void OnEndpointError(void* argument, ucp_ep_h, ucs_status_t status) {
  auto& connection = *static_cast<UcxEndpoint::Connection*>(argument);
  connection.status =
      Error(StatusCode::kUnavailable, "connection lost: {}", ucs_status_string(status));
  if (connection.on_error == nullptr) return;
  auto on_error = std::exchange(connection.on_error, nullptr);
  std::move(on_error)(connection.status);
}

// What may become a rendezvous names its sender, so that the receiver can end the
// transfer from its side.
uint32_t FlagsOf(SendMode mode) {
  switch (mode) {
    case SendMode::kEager:
      return UCP_AM_SEND_FLAG_EAGER;
    case SendMode::kRendezvous:
      return UCP_AM_SEND_FLAG_RNDV | UCP_AM_SEND_FLAG_REPLY;
    case SendMode::kAuto:
      break;
  }
  return UCP_AM_SEND_FLAG_REPLY;
}

}  // namespace

UcxEndpoint::UcxEndpoint(std::shared_ptr<UcxWorker> worker, std::unique_ptr<Connection> connection)
    : worker_(std::move(worker)), connection_(std::move(connection)) {}

UcxEndpoint::~UcxEndpoint() { worker_->impl_->Retire(std::move(connection_)); }

StatusOr<std::unique_ptr<UcxEndpoint>> UcxEndpoint::Connect(std::shared_ptr<UcxWorker> worker,
                                                            std::span<const std::byte> address,
                                                            OnError on_error) {
  auto connection = std::make_unique<Connection>();
  connection->worker = worker->impl_.get();
  connection->on_error = std::move(on_error);
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(address.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = &OnEndpointError;
  params.err_handler.arg = connection.get();
  const ucs_status_t status = ucp_ep_create(worker->handle(), &params, &connection->handle);
  if (status != UCS_OK) {
    return Error(StatusCode::kUnavailable, "cannot connect ({}); transports here: {}",
                 ucs_status_string(status), worker->context()->tls());
  }
  connection->last_transport = TransportOf(Describe(connection->handle));
  return std::unique_ptr<UcxEndpoint>(new UcxEndpoint(std::move(worker), std::move(connection)));
}

void UcxEndpoint::Send(uint16_t am_id, std::span<const std::byte> header,
                       std::span<const std::byte> payload, const SendOptions& options, Done done) {
  UcxWorker::Impl& impl = *worker_->impl_;
  PASSBAND_CHECK(header.size() <= impl.max_header);
  PASSBAND_CHECK(options.memory == nullptr || options.memory->Contains(payload));
  if (!connection_->status.ok()) {
    std::move(done)(connection_->status);
    return;
  }
  Transfer& transfer = impl.Begin("send", std::move(done));
  transfer.connection = connection_.get();
  transfer.header.assign(header.begin(), header.end());
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                        UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_MEMORY_TYPE;
  params.cb.send = &UcxWorker::Impl::OnSent;
  params.user_data = &transfer;
  params.flags = FlagsOf(options.mode);
  params.memory_type = UCS_MEMORY_TYPE_HOST;
  if (options.memory != nullptr) {
    params.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
    params.memh = options.memory->handle();
  }
  impl.Conclude(transfer,
                ucp_am_send_nbx(connection_->handle, am_id, transfer.header.data(),
                                transfer.header.size(), payload.data(), payload.size(), &params));
}

void UcxEndpoint::Flush(Done done) {
  UcxWorker::Impl& impl = *worker_->impl_;
  if (!connection_->status.ok()) {
    std::move(done)(connection_->status);
    return;
  }
  Transfer& transfer = impl.Begin("flush", std::move(done));
  transfer.connection = connection_.get();
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.cb.send = &UcxWorker::Impl::OnSent;
  params.user_data = &transfer;
  impl.Conclude(transfer, ucp_ep_flush_nbx(connection_->handle, &params));
}

const Status& UcxEndpoint::status() const { return connection_->status; }

std::string UcxEndpoint::transport_name() const {
  // UCX takes the lanes of a lost connection away.
  if (connection_->status.ok()) {
    connection_->last_transport = TransportOf(Describe(connection_->handle));
  }
  return connection_->last_transport;
}

}  // namespace passband::transport
