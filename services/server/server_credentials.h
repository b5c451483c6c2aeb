// ServerCredentials: what the gRPC port demands of those who connect, and shows them: with every
// new connection, what the watch has then.
//
// Threads    safe.
// Ownership  the watch and the credentials must outlive the gRPC server that uses them.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "services/server/tls_watch.h"

namespace passband::server {

// No watch: no encryption. With an authority, clients must show a certificate that it signed.
std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(const TlsWatch* watch);

}  // namespace passband::server
