#include "services/server/peer_identity.h"

#include <grpc/grpc_security_constants.h>

#include <optional>
#include <vector>

#include "base/hash.h"
#include "services/server/session_table.h"

namespace passband::server {
namespace {

constexpr char kScheme[] = "spiffe://";

std::vector<std::string> Values(const grpc::AuthContext& peer, const char* property) {
  std::vector<std::string> out;
  for (const auto& value : peer.FindPropertyValues(property)) {
    out.emplace_back(value.data(), value.size());
  }
  return out;
}

// Empty when the peer has shown no certificate.
std::string CertificateOf(const grpc::AuthContext& peer) {
  const auto texts = Values(peer, GRPC_X509_PEM_CERT_PROPERTY_NAME);
  if (texts.empty()) return "";
  return ToHex(HashSha256(std::as_bytes(std::span(texts.front()))));
}

// NAME of ".../ROLE/NAME"; empty when it is no such URI.
std::string NameInUri(const std::string& uri, const char* role) {
  const size_t last = uri.rfind('/');
  if (last == std::string::npos || last == 0) return "";
  const size_t before = uri.rfind('/', last - 1);
  // Past the domain.
  if (before == std::string::npos || before < sizeof(kScheme)) return "";
  return uri.substr(before + 1, last - before - 1) == role ? uri.substr(last + 1) : "";
}

// Whom the certificate names in this role.
std::string NameInCertificate(const grpc::AuthContext& peer, const char* role) {
  std::optional<std::string> found;
  for (const std::string& uri : Values(peer, GRPC_PEER_URI_PROPERTY_NAME)) {
    if (uri.rfind(kScheme, 0) != 0) continue;
    const std::string name = NameInUri(uri, role);
    // Two that differ name nobody.
    if (found.has_value() && *found != name) return "";
    found = name;
  }
  if (found.has_value()) return *found;
  const auto names = Values(peer, GRPC_X509_CN_PROPERTY_NAME);
  return names.size() == 1 ? names.front() : "";
}

}  // namespace

StatusOr<PeerIdentity> IdentifyPeer(const grpc::AuthContext& peer) {
  PeerIdentity out{.tenant = "", .certificate = CertificateOf(peer)};
  if (out.certificate.empty()) return out;
  out.tenant = NameInCertificate(peer, "tenant");
  if (!out.tenant.empty() && IsTenantName(out.tenant)) return out;
  return Error(StatusCode::kUnauthenticated,
               "the client certificate names no tenant: give it the alternative name "
               "URI:spiffe://DOMAIN/tenant/NAME, or NAME as its common name (at most {} letters, "
               "digits, '.', '_' and '-')",
               kMaxTenantName);
}

std::string OperatorOf(const grpc::AuthContext& peer) {
  return CertificateOf(peer).empty() ? "" : NameInCertificate(peer, "operator");
}

StatusOr<std::string> TenantOf(const PeerIdentity& peer, const std::string& asked) {
  if (peer.certificate.empty()) return asked;
  if (asked.empty() || asked == peer.tenant) return peer.tenant;
  return Error(StatusCode::kPermissionDenied,
               "the client certificate is tenant {}'s, not {}'s: ask for no tenant, or use the "
               "other's certificate",
               peer.tenant, IsTenantName(asked) ? asked : "another");
}

Status CheckCertificate(const Session& session, const grpc::AuthContext& peer) {
  if (CertificateOf(peer) == session.certificate()) return OkStatus();
  return Error(StatusCode::kUnauthenticated,
               "the session was opened with another certificate; connect again");
}

}  // namespace passband::server
