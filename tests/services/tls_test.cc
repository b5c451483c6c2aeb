// Goal: over mutual TLS only those get in whom the authority vouches for, each as the tenant that
// its certificate names; and certificates are renewed without a restart.
#include <filesystem>
#include <thread>

#include "tests/services/grpc_client.h"
#include "tests/services/server_fixture.h"
#include "tests/support/certificates.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {
namespace {

using std::chrono::seconds;
using test::CertificateAuthority;

class TlsTest : public ServerTest {
 protected:
  void SetUp() override {
    authority_ = std::make_unique<CertificateAuthority>(folder_.path(), "authority");
    files_ = authority_->Issue("server", {.common_name = "server", .loopback = true});
    server::Settings settings = SmallSettings();
    settings.data_grpc = true;
    settings.data_ucx = false;
    settings.tls = files_;
    Start(settings);
  }

  TlsFiles Tenant(const std::string& name) const {
    return authority_->Issue("client-" + name, {.uris = {"spiffe://test/tenant/" + name}});
  }
  grpc::Status ConnectWith(const TlsFiles& files, const std::string& tenant = "") {
    return GrpcClient(ControlAddress(*server_), files).Connect(tenant);
  }
  // The tenant that a session of these files becomes.
  std::string BecomesTenant(const TlsFiles& files, const std::string& asked) {
    GrpcClient client(ControlAddress(*server_), files);
    EXPECT_TRUE(client.Connect(asked).ok());
    v1::RegisterModelRequest model;
    *model.mutable_model() = TestModel();
    v1::RegisterModelResponse registered;
    client.control().RegisterModel(client.Context().get(), model, &registered);
    v1::OpenSequenceRequest open;
    open.set_model(TestModel().fingerprint());
    v1::OpenSequenceResponse opened;
    client.control().OpenSequence(client.Context().get(), open, &opened);
    v1::StatSequenceRequest stat;
    stat.set_sequence(opened.sequence());
    v1::StatSequenceResponse found;
    const grpc::Status status = client.control().StatSequence(client.Context().get(), stat, &found);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return found.sequence().tenant();
  }

  test::TempFolder folder_;
  std::unique_ptr<CertificateAuthority> authority_;
  TlsFiles files_;
};

TEST_F(TlsTest, ACertificateOfTheAuthorityGetsIn) {
  EXPECT_TRUE(ConnectWith(Tenant("a")).ok());
  EXPECT_TRUE(ConnectWith(Tenant("a"), "a").ok());
}

TEST_F(TlsTest, NoCertificate) {
  TlsFiles only_trust;
  only_trust.ca = authority_->file();
  EXPECT_EQ(ConnectWith(only_trust).error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(ConnectWith({}).error_code(), grpc::UNAVAILABLE) << "no TLS at all";
}

TEST_F(TlsTest, ACertificateOfAnotherAuthority) {
  const CertificateAuthority other(folder_.path(), "other");
  TlsFiles files = other.Issue("stranger", {.uris = {"spiffe://test/tenant/a"}});
  files.ca = authority_->file();
  EXPECT_EQ(ConnectWith(files).error_code(), grpc::UNAVAILABLE);
}

TEST_F(TlsTest, AnExpiredCertificate) {
  const TlsFiles files = authority_->Issue(
      "expired", {.uris = {"spiffe://test/tenant/a"}, .valid_from_days = -3, .valid_to_days = -1});
  EXPECT_EQ(ConnectWith(files).error_code(), grpc::UNAVAILABLE);
}

TEST_F(TlsTest, ACertificateThatIsNotValidYet) {
  const TlsFiles files = authority_->Issue(
      "early", {.uris = {"spiffe://test/tenant/a"}, .valid_from_days = 2, .valid_to_days = 9});
  EXPECT_EQ(ConnectWith(files).error_code(), grpc::UNAVAILABLE);
}

TEST_F(TlsTest, AClientDoesNotTrustAServerOfAnotherAuthority) {
  const CertificateAuthority other(folder_.path(), "other");
  TlsFiles files = Tenant("a");
  files.ca = other.file();
  EXPECT_EQ(ConnectWith(files).error_code(), grpc::UNAVAILABLE);
}

TEST_F(TlsTest, TheCertificateNamesTheTenant) {
  EXPECT_EQ(BecomesTenant(Tenant("a"), ""), "a");
  EXPECT_EQ(BecomesTenant(Tenant("a"), "a"), "a");
  const TlsFiles named = authority_->Issue("named", {.common_name = "by-name"});
  EXPECT_EQ(BecomesTenant(named, ""), "by-name");
  // The alternative name counts, not the common one.
  const TlsFiles both =
      authority_->Issue("both", {.common_name = "x", .uris = {"spiffe://test/deep/tenant/a"}});
  EXPECT_EQ(BecomesTenant(both, ""), "a");
}

TEST_F(TlsTest, WhoClaimsAnotherTenantIsRefused) {
  const grpc::Status status = ConnectWith(Tenant("a"), "b");
  EXPECT_EQ(status.error_code(), grpc::PERMISSION_DENIED);
  EXPECT_NE(status.error_message().find("tenant a's"), std::string::npos) << status.error_message();
}

TEST_F(TlsTest, ACertificateThatNamesNobody) {
  const CertificateAuthority::Subject kNobodies[] = {
      {.common_name = ""},
      {.common_name = "no such/tenant"},
      {.common_name = "a", .uris = {"spiffe://test/tenant/"}},
      {.common_name = "a", .uris = {"spiffe://test/workload/b"}},
      {.common_name = "a", .uris = {"spiffe://test/tenant/a", "spiffe://test/tenant/b"}}};
  int number = 0;
  for (const auto& subject : kNobodies) {
    const TlsFiles files = authority_->Issue("nobody" + std::to_string(number++), subject);
    const grpc::Status status = ConnectWith(files);
    EXPECT_EQ(status.error_code(), grpc::UNAUTHENTICATED) << number << status.error_message();
    EXPECT_NE(status.error_message().find("names no tenant"), std::string::npos);
  }
}

TEST_F(TlsTest, RenewedFilesServeNewConnections) {
  GrpcClient before(ControlAddress(*server_), Tenant("a"));
  ASSERT_TRUE(before.Connect("a").ok());
  // All three files change hands: another authority, another certificate, another key.
  const CertificateAuthority renewed(folder_.path(), "renewed");
  const TlsFiles next = renewed.Issue("next", {.common_name = "server", .loopback = true});
  std::filesystem::rename(next.key, files_.key);
  std::filesystem::rename(next.certificate, files_.certificate);
  std::filesystem::copy_file(renewed.file(), files_.ca,
                             std::filesystem::copy_options::overwrite_existing);
  const TlsFiles client = renewed.Issue("client", {.uris = {"spiffe://test/tenant/a"}});
  const Time end = std::chrono::steady_clock::now() + seconds(30);
  grpc::Status status = ConnectWith(client);
  while (!status.ok() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    status = ConnectWith(client);
  }
  EXPECT_TRUE(status.ok()) << status.error_message();
  // Connections that are open stay; who trusts only the old authority gets in no more.
  v1::HeartbeatResponse beat;
  EXPECT_TRUE(before.control().Heartbeat(before.Context().get(), {}, &beat).ok());
  const TlsFiles old = authority_->Issue("old", {.uris = {"spiffe://test/tenant/a"}});
  EXPECT_EQ(ConnectWith(old).error_code(), grpc::UNAVAILABLE);
}

}  // namespace
}  // namespace passband::testing
