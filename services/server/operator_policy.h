// OperatorPolicy: who may call the operator's calls.
//
// Where clients show certificates, those that name an operator who is listed: NAME of the one
// URI among the alternative names that reads spiffe://DOMAIN[/...]/operator/NAME, or, in a
// certificate without a spiffe URI, the common name. A tenant's certificate is nobody's
// operator. Elsewhere the place a call comes from decides.
//
// Threads  safe: never changes.
// Errors   kInvalidArgument what is wrong with the text; kPermissionDenied what to do.
#pragma once

#include <grpcpp/security/auth_context.h>

#include <string>

#include "base/status.h"
#include "services/server/settings.h"

namespace passband::server {

// Of --operators. `client_certificates`: they are demanded.
StatusOr<OperatorPolicy> ParseOperatorPolicy(const std::string& text, bool client_certificates);

// Who calls, for the log: the operator's name, or empty where nobody has one. `address` is
// gRPC's name of the peer.
StatusOr<std::string> CheckOperator(const OperatorPolicy& policy, const grpc::AuthContext& peer,
                                    const std::string& address);

// Whether gRPC's name of a peer ("ipv4:127.0.0.1:4711") is of this machine.
bool IsLocalPeer(const std::string& peer);

}  // namespace passband::server
