// Goal: every call there is, of every service, is tried without credentials, with wrong ones and
// with another tenant's, over mutual TLS and without: none does anything.
//
// The calls come from the protocol's own description, so that a new one is tried as well.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "passband/v1/data.pb.h"
#include "tests/services/grpc_client.h"
#include "tests/services/server_fixture.h"
#include "tests/support/certificates.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {
namespace {

namespace pb = google::protobuf;

// Calls that need no session.
const std::set<std::string> kOpenToAll = {"Connect", "Info"};

std::vector<const pb::MethodDescriptor*> Methods() {
  std::vector<const pb::MethodDescriptor*> out;
  for (const pb::FileDescriptor* file :
       {v1::ConnectRequest::descriptor()->file(), v1::DataRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        out.push_back(file->service(s)->method(m));
      }
    }
  }
  return out;
}

std::string PathOf(const pb::MethodDescriptor& method) {
  return "/" + method.service()->full_name() + "/" + method.name();
}

bool IsData(const pb::MethodDescriptor& method) { return method.service()->name() == "Data"; }

class CredentialsTest : public ServerTest, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    server::Settings settings = SmallSettings();
    settings.data_grpc = true;
    settings.data_ucx = false;
    if (GetParam()) {
      authority_ = std::make_unique<test::CertificateAuthority>(folder_.path(), "authority");
      settings.tls = authority_->Issue("server", {.common_name = "server", .loopback = true});
    }
    Start(settings);
    owner_ = NewClient("a");
    stranger_ = NewClient("b");
    ASSERT_TRUE(owner_->Connect("a").ok());
    ASSERT_TRUE(stranger_->Connect("b").ok());
    for (GrpcClient* client : {owner_.get(), stranger_.get()}) RegisterAll(*client);
    v1::OpenSequenceRequest open;
    open.set_model(TestModel().fingerprint());
    v1::OpenSequenceResponse opened;
    ASSERT_TRUE(owner_->control().OpenSequence(owner_->Context().get(), open, &opened).ok());
    sequence_ = opened.sequence();
    for (uint16_t layer = 0; layer < kLayers; ++layer) {
      ASSERT_TRUE(
          owner_->Append(sequence_, layer, 0, 64, TestRows(sequence_, layer, 0, 64)).status.ok());
    }
  }

  // After every attempt the owner finds all as it was.
  void TearDown() override {
    EXPECT_EQ(owner_->Read(sequence_, 1, 0, 64).payload, TestRows(sequence_, 1, 0, 64));
    v1::StatSequenceRequest stat;
    stat.set_sequence(sequence_);
    v1::StatSequenceResponse found;
    ASSERT_TRUE(owner_->control().StatSequence(owner_->Context().get(), stat, &found).ok());
    EXPECT_EQ(found.sequence().committed_tokens(), 64U);
    EXPECT_EQ(found.sequence().state(), v1::SEQUENCE_STATE_OPEN);
    v1::ListSequencesResponse list;
    ASSERT_TRUE(owner_->control().ListSequences(owner_->Context().get(), {}, &list).ok());
    EXPECT_EQ(list.sequences_size(), 1);
  }

  std::unique_ptr<GrpcClient> NewClient(const std::string& tenant) {
    TlsFiles files;
    if (authority_ != nullptr) {
      files = authority_->Issue("client-" + tenant, {.uris = {"spiffe://test/tenant/" + tenant}});
    }
    return std::make_unique<GrpcClient>(ControlAddress(*server_), files);
  }

  void RegisterAll(GrpcClient& client) {
    v1::RegisterModelRequest model;
    *model.mutable_model() = TestModel();
    v1::RegisterModelResponse registered;
    ASSERT_TRUE(client.control().RegisterModel(client.Context().get(), model, &registered).ok());
    v1::RegisterProfileRequest profile;
    profile.set_profile_json(TestProfile()->ToJson());
    v1::RegisterProfileResponse made;
    ASSERT_TRUE(client.control().RegisterProfile(client.Context().get(), profile, &made).ok());
    profile_ = made.profile_id();
  }

  // The method's request, about the owner's sequence, where it is about one.
  grpc::ByteBuffer RequestOf(const pb::MethodDescriptor& method) {
    const std::unique_ptr<pb::Message> request(
        pb::MessageFactory::generated_factory()->GetPrototype(method.input_type())->New());
    if (const auto* field = method.input_type()->FindFieldByName("sequence"); field != nullptr) {
      request->GetReflection()->SetUInt64(request.get(), field, sequence_);
    }
    const std::string bytes = request->SerializeAsString();
    return ToBuffer(std::as_bytes(std::span(bytes)));
  }

  // Every data call about the owner's sequence, with the caller's credentials.
  std::vector<GrpcClient::Answer> DataCalls(GrpcClient& client) {
    return {client.Fetch(sequence_, 0, 0, {1, 2}, kRowBytes), client.Read(sequence_, 0, 0, 10),
            client.Slices(sequence_, profile_, 0, 0, 10),
            client.Append(sequence_, 0, 64, 10, TestRows(sequence_, 0, 64, 10))};
  }

  void ExpectAllRefused(GrpcClient& client, grpc::StatusCode code) {
    for (const pb::MethodDescriptor* method : Methods()) {
      if (IsData(*method) || kOpenToAll.contains(method->name())) continue;
      SCOPED_TRACE(PathOf(*method));
      const auto answer = client.Send(PathOf(*method), RequestOf(*method));
      EXPECT_EQ(answer.status.error_code(), code) << answer.status.error_message();
    }
    for (const GrpcClient::Answer& answer : DataCalls(client)) {
      EXPECT_EQ(answer.status.error_code(), code) << answer.status.error_message();
      EXPECT_TRUE(answer.payload.empty());
    }
  }

  test::TempFolder folder_;
  std::unique_ptr<test::CertificateAuthority> authority_;  // null: no TLS
  std::unique_ptr<GrpcClient> owner_, stranger_;
  uint64_t sequence_ = 0;
  uint64_t profile_ = 0;
};

TEST_P(CredentialsTest, TheCallsThatAreTriedAreAllThereAre) {
  size_t data = 0;
  for (const pb::MethodDescriptor* method : Methods()) data += IsData(*method) ? 1 : 0;
  EXPECT_EQ(data, DataCalls(*stranger_).size());
  EXPECT_GE(Methods().size(), data + 17);
}

TEST_P(CredentialsTest, NoSession) {
  stranger_->credentials() = {};
  ExpectAllRefused(*stranger_, grpc::UNAUTHENTICATED);
}

TEST_P(CredentialsTest, ASessionThatDoesNotExist) {
  auto& mine = stranger_->credentials();
  mine.session = "00000000000000ff";
  mine.identity.session = 0xff;
  ExpectAllRefused(*stranger_, grpc::UNAUTHENTICATED);
}

TEST_P(CredentialsTest, TheOwnersSessionWithoutItsSecrets) {
  auto& mine = stranger_->credentials();
  mine.session = owner_->credentials().session;
  mine.identity.session = owner_->credentials().identity.session;
  ExpectAllRefused(*stranger_, grpc::UNAUTHENTICATED);
}

TEST_P(CredentialsTest, AnEndedSession) {
  v1::DisconnectResponse ended;
  ASSERT_TRUE(stranger_->control().Disconnect(stranger_->Context().get(), {}, &ended).ok());
  ExpectAllRefused(*stranger_, grpc::UNAUTHENTICATED);
}

// Who has stolen even the secrets still lacks the certificate.
TEST_P(CredentialsTest, TheOwnersSecretsWithAnotherCertificate) {
  if (!GetParam()) GTEST_SKIP() << "without TLS, the secrets are all there is";
  stranger_->credentials() = owner_->credentials();
  ExpectAllRefused(*stranger_, grpc::UNAUTHENTICATED);
  EXPECT_GE(Metric(*server_, "passband_transport_errors_total{reason=\"wrong_certificate\"}"), 4);
}

TEST_P(CredentialsTest, AnotherTenantsSequenceIsNotFound) {
  size_t tried = 0;
  for (const pb::MethodDescriptor* method : Methods()) {
    if (method->input_type()->FindFieldByName("sequence") == nullptr) continue;
    SCOPED_TRACE(PathOf(*method));
    const auto answer = stranger_->Send(PathOf(*method), RequestOf(*method));
    EXPECT_EQ(answer.status.error_code(), grpc::NOT_FOUND) << answer.status.error_message();
    ++tried;
  }
  EXPECT_GE(tried, 6U);
  for (const GrpcClient::Answer& answer : DataCalls(*stranger_)) {
    EXPECT_EQ(answer.status.error_code(), grpc::NOT_FOUND) << answer.status.error_message();
    EXPECT_TRUE(answer.payload.empty());
  }
  v1::ListSequencesResponse list;
  ASSERT_TRUE(stranger_->control().ListSequences(stranger_->Context().get(), {}, &list).ok());
  EXPECT_EQ(list.sequences_size(), 0);
}

INSTANTIATE_TEST_SUITE_P(Ways, CredentialsTest, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "MutualTls" : "Plain"; });

}  // namespace
}  // namespace passband::testing
