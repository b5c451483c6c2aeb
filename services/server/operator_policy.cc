#include "services/server/operator_policy.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "services/server/peer_identity.h"
#include "services/server/session_table.h"

namespace passband::server {
namespace {

constexpr char kHowToName[] =
    "name operators, NAME[,NAME], as their certificates do: the alternative name "
    "URI:spiffe://DOMAIN/operator/NAME, or NAME as the common name";

StatusOr<std::vector<std::string>> ParseNames(const std::string& text) {
  std::vector<std::string> names;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    std::string name = text.substr(begin, end - begin);
    if (name.empty() || !IsTenantName(name)) {
      return Error(StatusCode::kInvalidArgument,
                   "--operators '{}': '{}' is no name; give at most {} letters, digits, '.', '_' "
                   "and '-' for each",
                   text, name, kMaxTenantName);
    }
    names.push_back(std::move(name));
    begin = end + 1;
  }
  return names;
}

Status NotNamed(const OperatorPolicy& policy, const std::string& name) {
  const std::string who = name.empty() ? "the client certificate names no operator"
                                       : "operator " + name + " is not one of this server's";
  if (policy.names.empty()) {
    return Error(StatusCode::kPermissionDenied,
                 "{}; with client certificates nobody is until the server is started with "
                 "--operators NAME",
                 who);
  }
  return Error(StatusCode::kPermissionDenied,
               "{}: use a certificate of one, with the alternative name "
               "URI:spiffe://DOMAIN/operator/NAME or the common name NAME, or start the server "
               "with its name in --operators",
               who);
}

}  // namespace

StatusOr<OperatorPolicy> ParseOperatorPolicy(const std::string& text, bool client_certificates) {
  using Who = OperatorPolicy::Who;
  const bool place = text == "local" || text == "any";
  if (client_certificates && place) {
    return Error(StatusCode::kInvalidArgument, "--operators {}: with --tls-client-ca {}", text,
                 kHowToName);
  }
  if (client_certificates) {
    OperatorPolicy policy{.who = Who::kNamed, .names = {}};
    if (text.empty()) return policy;
    PASSBAND_ASSIGN_OR_RETURN(policy.names, ParseNames(text));
    return policy;
  }
  if (text.empty() || place) {
    return OperatorPolicy{.who = text == "any" ? Who::kAnybody : Who::kLocal, .names = {}};
  }
  return Error(StatusCode::kInvalidArgument,
               "--operators '{}': names need client certificates, --tls-client-ca; without them "
               "give local or any",
               text);
}

StatusOr<std::string> CheckOperator(const OperatorPolicy& policy, const grpc::AuthContext& peer,
                                    const std::string& address) {
  if (policy.who == OperatorPolicy::Who::kNamed) {
    std::string name = OperatorOf(peer);
    const bool listed =
        std::find(policy.names.begin(), policy.names.end(), name) != policy.names.end();
    if (!listed) return NotNamed(policy, IsTenantName(name) ? name : "");
    return name;
  }
  if (policy.who == OperatorPolicy::Who::kAnybody || IsLocalPeer(address)) return std::string();
  return Error(StatusCode::kPermissionDenied,
               "operators must call from the server's own machine: run the command there, or "
               "start the server with --operators any");
}

bool IsLocalPeer(const std::string& peer) {
  // gRPC writes the brackets of IPv6 as they are or escaped, by its version.
  static constexpr std::array kLocal = {
      "unix:",           "ipv4:127.",         "ipv6:[::1]:",
      "ipv6:%5B::1%5D:", "ipv6:[::ffff:127.", "ipv6:%5B::ffff:127."};
  return std::any_of(kLocal.begin(), kLocal.end(),
                     [&](const char* start) { return peer.rfind(start, 0) == 0; });
}

}  // namespace passband::server
