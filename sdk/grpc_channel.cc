#include "sdk/grpc_channel.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <chrono>

namespace passband {
namespace {

constexpr char kRetryAfterMetadata[] = "passband-retry-after-ms";
// Rows come in megabytes: neither the window nor the frame shall cut them small.
constexpr int kLookaheadBytes = 4 << 20;
constexpr int kFrameBytes = 1 << 20;

}  // namespace

std::shared_ptr<grpc::Channel> MakeGrpcChannel(const GrpcTarget& target, int max_message_bytes) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2'000);
  // Sessions of one process are apart, so that one's trouble is not another's.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kLookaheadBytes);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kFrameBytes);
  arguments.SetMaxReceiveMessageSize(max_message_bytes);
  if (!target.encrypted()) {
    return grpc::CreateCustomChannel(target.address, grpc::InsecureChannelCredentials(), arguments);
  }
  if (!target.server_name.empty()) arguments.SetSslTargetNameOverride(target.server_name);
  const grpc::SslCredentialsOptions options{.pem_root_certs = target.tls.ca,
                                            .pem_private_key = target.tls.key,
                                            .pem_cert_chain = target.tls.certificate};
  return grpc::CreateCustomChannel(target.address, grpc::SslCredentials(options), arguments);
}

Status FromGrpc(const grpc::Status& status, const grpc::ClientContext& context) {
  if (status.ok()) return OkStatus();
  Status out(static_cast<StatusCode>(status.error_code()), status.error_message());
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto found = trailers.find(kRetryAfterMetadata);
  if (found == trailers.end()) return out;
  const std::string text(found->second.data(), found->second.size());
  if (text.empty() || text.size() > 9 ||
      !std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    return out;
  }
  return WithRetryAfter(out, std::chrono::milliseconds(std::stoll(text)));
}

}  // namespace passband
