#include "sdk/data_connect.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "sdk/grpc_link.h"
#include "sdk/ucx_link.h"

namespace passband {
namespace {

// Of the time to connect, what shared memory may take to answer.
constexpr int kShareOfTrial = 4;
// More than the server's replay window: a HELLO that is taken up after the trial was given up
// is refused, and cannot take the connection that came after it away.
constexpr uint64_t kIdsOfTrial = 4096;

DataChannel::Options ChannelOptions(const RemoteOptions& options, const SessionInfo& session,
                                    std::function<void()> heartbeat) {
  return {
      .server = options.control_address,
      .session = {session.session, session.epoch, session.secret},
      .limits = {session.max_reply_bytes, session.max_rows, session.max_outstanding},
      .connect_timeout = options.connect_timeout,
      .shared_memory_timeout = options.connect_timeout,
      .spin = options.spin,
      .max_outstanding = options.max_outstanding,
      .heartbeat = std::move(heartbeat),
      .heartbeat_every = std::max(session.lease / 3, std::chrono::milliseconds(10)),
  };
}

// Whether rows travel over gRPC. Never what nobody asked for: encrypted calls beside rows that
// are not need a word.
StatusOr<bool> UsesGrpc(const RemoteOptions& options, const SessionInfo& session) {
  const bool ucx = !session.data_address.empty();
  if (options.data_plane == "ucx" && ucx) return false;
  if (options.data_plane == "grpc" && session.data_grpc) return true;
  if (options.data_plane == "auto" && ucx && options.tls.empty()) return false;
  if (options.data_plane == "auto" && session.data_grpc) return true;
  if (options.data_plane == "auto") {
    return Error(StatusCode::kFailedPrecondition,
                 "passband-server at {} sends rows over UCX alone, without encryption: start it "
                 "with --data-plane grpc or both, or ask for ucx",
                 options.control_address);
  }
  return Error(StatusCode::kFailedPrecondition,
               "passband-server at {} sends no rows over {}: ask for auto, or start it with "
               "--data-plane {} or both",
               options.control_address, options.data_plane, options.data_plane);
}

StatusOr<std::shared_ptr<DataChannel>> OpenGrpc(const GrpcTarget& target,
                                                const SessionInfo& session,
                                                DataChannel::Options channel) {
  // gRPC's own threads take the answer from the wire: polling would only be in their way.
  channel.spin = {};
  return DataChannel::Connect(std::move(channel),
                              std::make_unique<GrpcLink>(target, session.max_reply_bytes));
}

StatusOr<std::shared_ptr<DataChannel>> OpenUcx(const RemoteOptions& options,
                                               const SessionInfo& session,
                                               DataChannel::Options channel, bool shared_memory) {
  PASSBAND_ASSIGN_OR_RETURN(auto link, UcxLink::Create({.tls = options.transports,
                                                        .shared_memory = shared_memory,
                                                        .net_devices = options.net_devices,
                                                        .tcp_port_range = "",
                                                        .cma = options.cma},
                                                       session.data_address));
  return DataChannel::Connect(std::move(channel), std::move(link));
}

// Over shared memory where it leads to the server, else over what is left in the time.
StatusOr<std::shared_ptr<DataChannel>> OpenUcxAuto(const RemoteOptions& options,
                                                   const SessionInfo& session,
                                                   DataChannel::Options channel) {
  const auto start = std::chrono::steady_clock::now();
  DataChannel::Options trial = channel;
  trial.shared_memory_timeout = options.connect_timeout / kShareOfTrial;
  auto opened = OpenUcx(options, session, std::move(trial), true);
  const StatusCode code = opened.status().code();
  if (code != StatusCode::kDeadlineExceeded && code != StatusCode::kUnavailable) return opened;
  channel.connect_timeout -=
      std::chrono::ceil<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
  if (channel.connect_timeout.count() <= 0) return opened;
  channel.first_request_id = kIdsOfTrial;
  auto second = OpenUcx(options, session, std::move(channel), false);
  if (!second.ok()) return second;
  log::Warn("shared_memory_unanswered", {{"server", options.control_address},
                                         {"transport", (*second)->transport()},
                                         {"why", opened.status()}});
  return second;
}

}  // namespace

StatusOr<std::shared_ptr<DataChannel>> OpenDataChannel(const RemoteOptions& options,
                                                       const GrpcTarget& target,
                                                       const SessionInfo& session,
                                                       std::function<void()> heartbeat) {
  DataChannel::Options channel = ChannelOptions(options, session, std::move(heartbeat));
  PASSBAND_ASSIGN_OR_RETURN(const bool grpc, UsesGrpc(options, session));
  if (grpc) return OpenGrpc(target, session, std::move(channel));
  if (options.transports == "auto") return OpenUcxAuto(options, session, std::move(channel));
  return OpenUcx(options, session, std::move(channel), true);
}

}  // namespace passband
