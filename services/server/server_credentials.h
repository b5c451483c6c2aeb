// ServerCredentials: what the gRPC port demands of those who connect, and shows them.
//
// The files are read again every kTlsReload: a renewed certificate, key or authority serves the
// connections made from then on. They are to be replaced together, as by a rename of a link to
// their folder; a key that does not fit its certificate is not taken.
//
// Threads  safe.
// Errors   none: check the files first (base/tls_files.h).
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <chrono>
#include <memory>

#include "base/tls_files.h"

namespace passband::server {

inline constexpr std::chrono::seconds kTlsReload{2};

// No files: no encryption. With an authority (`ca`), clients must show a certificate that it
// signed.
std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(const TlsFiles& files);

}  // namespace passband::server
