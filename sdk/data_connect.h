// Choosing what carries a session's rows: UCX or gRPC, and of UCX's transports those that lead
// to the server. Two hosts, or containers, may look like one to UCX and share no memory: with
// transports "auto" a connection over shared memory that does not answer is made again without.
//
// Threads    any.
// Errors     of DataChannel::Connect; kFailedPrecondition: what is asked for, the server has not.
#pragma once

#include <functional>
#include <memory>

#include "base/status.h"
#include "sdk/control_client.h"
#include "sdk/data_channel.h"
#include "sdk/grpc_channel.h"
#include "sdk/remote_service.h"

namespace passband {

StatusOr<std::shared_ptr<DataChannel>> OpenDataChannel(const RemoteOptions& options,
                                                       const GrpcTarget& target,
                                                       const SessionInfo& session,
                                                       std::function<void()> heartbeat);

}  // namespace passband
