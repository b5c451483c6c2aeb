// PeerIdentity: who calls, as its client certificate says.
//
// The tenant is NAME of the one URI among the certificate's alternative names that reads
// spiffe://DOMAIN[/...]/tenant/NAME; in a certificate without a spiffe URI, the common name.
//
// Threads  safe; pure.
// Errors   kUnauthenticated for a certificate that names no tenant.
#pragma once

#include <grpcpp/security/auth_context.h>

#include <string>

#include "base/status.h"
#include "services/server/session.h"

namespace passband::server {

struct PeerIdentity {
  std::string tenant;
  std::string certificate;  // its SHA-256; empty: the connection has none, and names no tenant
};

StatusOr<PeerIdentity> IdentifyPeer(const grpc::AuthContext& peer);

// NAME of the certificate's one URI spiffe://DOMAIN[/...]/operator/NAME, or its common name if it
// has no spiffe URI; empty when there is no certificate, or it names no operator.
std::string OperatorOf(const grpc::AuthContext& peer);

// The tenant that a worker becomes which asks to be `asked` (empty: whatever is right).
// kPermissionDenied when its certificate says another.
StatusOr<std::string> TenantOf(const PeerIdentity& peer, const std::string& asked);

// kUnauthenticated unless the caller shows the certificate that opened the session.
Status CheckCertificate(const Session& session, const grpc::AuthContext& peer);

}  // namespace passband::server
