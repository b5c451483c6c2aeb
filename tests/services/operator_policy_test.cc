// Goal: over mutual TLS the operator's calls are for operators whom the server's settings and their
// certificates name, and for nobody else, wherever they call from; others are told what to do.
#include "services/server/operator_policy.h"

#include "gmock/gmock.h"
#include "sdk/operator_client.h"
#include "tests/services/grpc_client.h"
#include "tests/services/server_fixture.h"
#include "tests/support/certificates.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {
namespace {

using server::OperatorPolicy;
using server::ParseOperatorPolicy;
using test::CertificateAuthority;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class OperatorPolicyTest : public ServerTest {
 protected:
  void SetUp() override { StartWith("ann,bob"); }

  void StartWith(const std::string& operators) {
    if (authority_ == nullptr) {
      authority_ = std::make_unique<CertificateAuthority>(folder_.path(), "authority");
      files_ = authority_->Issue("server", {.common_name = "server", .loopback = true});
    }
    server::Settings settings = SmallSettings();
    settings.data_grpc = true;
    settings.data_ucx = false;
    settings.tls = files_;
    auto policy = ParseOperatorPolicy(operators, /*client_certificates=*/true);
    ASSERT_TRUE(policy.ok()) << policy.status();
    settings.operators = *std::move(policy);
    Start(settings);
  }
  OperatorClient As(const CertificateAuthority::Subject& subject) {
    const TlsFiles files = authority_->Issue("client" + std::to_string(issued_++), subject);
    const auto texts = LoadTlsFiles(files);
    EXPECT_TRUE(texts.ok()) << texts.status();
    return OperatorClient({.address = ControlAddress(*server_), .tls = *texts});
  }
  // The list is refused, and so are inspect and drain.
  void ExpectRefused(const CertificateAuthority::Subject& subject, const std::string& text) {
    OperatorClient client = As(subject);
    const Status listed = client.List("", SequenceId(), 10).status();
    EXPECT_EQ(listed.code(), StatusCode::kPermissionDenied) << listed;
    EXPECT_THAT(Message(listed), HasSubstr(text));
    EXPECT_THAT(Message(listed), HasSubstr("--operators"));
    EXPECT_EQ(client.Inspect(SequenceId(1)).status().code(), StatusCode::kPermissionDenied);
    EXPECT_EQ(client.Drain().code(), StatusCode::kPermissionDenied);
    EXPECT_TRUE(client.Info().ok()) << "totals are for all";
    EXPECT_EQ(Get(*server_, "/readyz"), "ready\n");
  }

  test::TempFolder folder_;
  std::unique_ptr<CertificateAuthority> authority_;
  TlsFiles files_;
  int issued_ = 0;
};

TEST_F(OperatorPolicyTest, OperatorsWhoAreNamedGetIn) {
  GrpcClient tenant(ControlAddress(*server_),
                    authority_->Issue("tenant", {.uris = {"spiffe://test/tenant/a"}}));
  ASSERT_TRUE(tenant.Connect("").ok());
  v1::RegisterModelRequest model;
  *model.mutable_model() = TestModel();
  v1::RegisterModelResponse registered;
  ASSERT_TRUE(tenant.control().RegisterModel(tenant.Context().get(), model, &registered).ok());
  v1::OpenSequenceRequest open;
  open.set_model(TestModel().fingerprint());
  v1::OpenSequenceResponse opened;
  ASSERT_TRUE(tenant.control().OpenSequence(tenant.Context().get(), open, &opened).ok());

  const CertificateAuthority::Subject kOperators[] = {
      {.uris = {"spiffe://test/operator/ann"}},
      {.common_name = "x", .uris = {"spiffe://test/site/operator/bob"}},
      {.common_name = "bob"}};
  for (const auto& subject : kOperators) {
    OperatorClient client = As(subject);
    const auto page = client.List("", SequenceId(), 10);
    ASSERT_TRUE(page.ok()) << page.status();
    ASSERT_EQ(page->sequences.size(), 1U);
    EXPECT_EQ(page->sequences.front().tenant, "a");
    const auto detail = client.Inspect(page->sequences.front().id);
    EXPECT_TRUE(detail.ok()) << detail.status();
  }
  EXPECT_TRUE(As({.common_name = "ann"}).Drain().ok());
  EXPECT_EQ(Get(*server_, "/readyz", 503), "draining\n");
}

// All of them call from the server's own machine, which is not enough.
TEST_F(OperatorPolicyTest, OthersAreRefused) {
  ExpectRefused({.uris = {"spiffe://test/operator/eve"}}, "operator eve is not one");
  ExpectRefused({.common_name = "eve"}, "operator eve is not one");
  ExpectRefused({.uris = {"spiffe://test/tenant/ann"}}, "names no operator");
  ExpectRefused({.common_name = "ann", .uris = {"spiffe://test/tenant/a"}}, "names no operator");
  ExpectRefused({.uris = {"spiffe://test/operator/ann", "spiffe://test/operator/bob"}},
                "names no operator");
  ExpectRefused({.uris = {"spiffe://test/operator/ann", "spiffe://test/tenant/a"}},
                "names no operator");
  ExpectRefused({.common_name = "ann/bob"}, "names no operator");
  ExpectRefused({.common_name = ""}, "names no operator");
}

TEST_F(OperatorPolicyTest, WithoutNamesNobodyIsOne) {
  StartWith("");
  ExpectRefused({.uris = {"spiffe://test/operator/ann"}}, "nobody is until");
  ExpectRefused({.common_name = "ann"}, "nobody is until");
}

TEST_F(OperatorPolicyTest, AnOperatorsCertificateIsNoTenants) {
  GrpcClient client(ControlAddress(*server_),
                    authority_->Issue("operator", {.uris = {"spiffe://test/operator/ann"}}));
  EXPECT_EQ(client.Connect("").error_code(), grpc::UNAUTHENTICATED);
}

TEST(OperatorPolicyText, NamesNeedCertificatesAndPlacesHaveNone) {
  using Who = OperatorPolicy::Who;
  EXPECT_EQ(ParseOperatorPolicy("", false)->who, Who::kLocal);
  EXPECT_EQ(ParseOperatorPolicy("local", false)->who, Who::kLocal);
  EXPECT_EQ(ParseOperatorPolicy("any", false)->who, Who::kAnybody);
  EXPECT_EQ(ParseOperatorPolicy("", true)->who, Who::kNamed);
  EXPECT_THAT(ParseOperatorPolicy("ann,bob.b", true)->names, ElementsAre("ann", "bob.b"));
  for (const char* text : {"local", "any", "ann,", ",", "ann,,bob", "a b", "a/b"}) {
    const Status refused = ParseOperatorPolicy(text, true).status();
    EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(Message(refused), HasSubstr("--operators")) << text;
  }
  EXPECT_EQ(ParseOperatorPolicy("ann", false).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace passband::testing
