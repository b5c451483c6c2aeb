// GrpcChannel: connections to a server's gRPC port, encrypted or not, and what its calls answered.
//
// Threads  safe.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <memory>
#include <string>

#include "base/status.h"
#include "base/tls_files.h"

namespace passband {

// What a client knows of the server and of itself.
struct GrpcTarget {
  std::string address;      // host:port
  TlsTexts tls;             // all empty: no encryption
  std::string server_name;  // as the server's certificate calls it; empty: the address's host

  bool encrypted() const { return !tls.ca.empty() || !tls.certificate.empty(); }
};

// A connection of its own. `max_message_bytes`: of one that comes.
std::shared_ptr<grpc::Channel> MakeGrpcChannel(const GrpcTarget& target, int max_message_bytes);

// The status of a call that is over, with the server's retry-after.
Status FromGrpc(const grpc::Status& status, const grpc::ClientContext& context);

}  // namespace passband
