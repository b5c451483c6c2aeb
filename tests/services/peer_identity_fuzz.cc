// Goal: whatever names a client's certificate has, it stands for one tenant with a proper name or
// for none; no name crashes the server.
#include <grpc/grpc_security_constants.h>

#include <map>

#include "services/server/peer_identity.h"
#include "services/server/session_table.h"
#include "tests/support/fuzz.h"

namespace passband::server {
namespace {

using test::Require;

// Walks no properties: nobody asks for them.
class None : public grpc::AuthPropertyIterator {};

// A connection whose peer showed a certificate with these names.
class Peer final : public grpc::AuthContext {
 public:
  explicit Peer(test::Fields fields) {
    values_[GRPC_X509_PEM_CERT_PROPERTY_NAME] = {"certificate"};
    for (size_t uris = fields.Take<uint8_t>() % 4; uris > 0; --uris) {
      values_[GRPC_PEER_URI_PROPERTY_NAME].push_back(fields.TakeText());
    }
    for (size_t names = fields.Take<uint8_t>() % 3; names > 0; --names) {
      values_[GRPC_X509_CN_PROPERTY_NAME].push_back(fields.TakeText());
    }
  }

  bool IsPeerAuthenticated() const override { return true; }
  std::vector<grpc::string_ref> GetPeerIdentity() const override { return {}; }
  std::string GetPeerIdentityPropertyName() const override { return ""; }
  std::vector<grpc::string_ref> FindPropertyValues(const std::string& name) const override {
    const auto found = values_.find(name);
    if (found == values_.end()) return {};
    return {found->second.begin(), found->second.end()};
  }
  grpc::AuthPropertyIterator begin() const override { return None(); }
  grpc::AuthPropertyIterator end() const override { return None(); }
  void AddProperty(const std::string& /*key*/, const grpc::string_ref& /*value*/) override {}
  bool SetPeerIdentityPropertyName(const std::string& /*name*/) override { return false; }

  const std::vector<std::string>& uris() { return values_[GRPC_PEER_URI_PROPERTY_NAME]; }

 private:
  std::map<std::string, std::vector<std::string>> values_;
};

std::string Sized(const std::string& text) { return static_cast<char>(text.size()) + text; }

std::vector<std::string> Seeds() {
  const std::string a = Sized("spiffe://test/tenant/a"), b = Sized("spiffe://test/x/tenant/b");
  const std::string none("\0", 1);
  return {"\x01" + a + none,
          "\x02" + a + a + none,
          "\x02" + a + b + none,
          "\x01" + Sized("https://test/tenant/a") + "\x01" + Sized("c"),
          "\x01" + Sized("spiffe://tenant/a") + none,
          none + "\x01" + Sized("d"),
          none + "\x02" + Sized("d") + Sized("e")};
}

}  // namespace
}  // namespace passband::server

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  passband::test::BeginWith(argc, argv, passband::server::Seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using passband::test::Require;
  passband::server::Peer peer(passband::test::Fields(passband::test::Text(data, size)));
  const auto identity = passband::server::IdentifyPeer(peer);
  if (!identity.ok()) return 0;
  Require(!identity->tenant.empty() && passband::server::IsTenantName(identity->tenant));
  // A spiffe URI that names somebody else makes it nobody's.
  for (const std::string& uri : peer.uris()) {
    if (uri.starts_with("spiffe://")) Require(uri.ends_with("/tenant/" + identity->tenant));
  }
  Require(*passband::server::TenantOf(*identity, "") == identity->tenant);
  Require(!passband::server::TenantOf(*identity, identity->tenant + "x").ok());
  return 0;
}
