// Goal: every call there is, of every service over gRPC, is tried without credentials, with wrong
// ones and with another tenant's, over mutual TLS and without: each gets its code, and nothing is
// changed or shown.
#include "tests/services/call_table.h"
#include "tests/services/server_fixture.h"
#include "tests/support/certificates.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {
namespace {

using test::CertificateAuthority;

class CredentialsTest : public ServerTest, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    if (tls()) authority_ = std::make_unique<CertificateAuthority>(folder_.path(), "authority");
    Begin();
  }
  bool tls() const { return GetParam(); }

  // A server with the owner's sequences, and a session of another tenant.
  void Begin() {
    stranger_.reset();
    owner_.reset();
    server::Settings settings = SmallSettings();
    settings.data_grpc = true;
    settings.data_ucx = false;
    settings.pin_limit_bytes = uint64_t{4} << 20;
    // By name alone, so that nobody on this machine is one without TLS.
    settings.operators.who = server::OperatorPolicy::Who::kNamed;
    if (tls()) {
      settings.operators.names = {"ann"};
      settings.tls = authority_->Issue("server", {.common_name = "server", .loopback = true});
    }
    Start(settings);
    owner_ = Of("spiffe://test/tenant/a");
    stranger_ = Of("spiffe://test/tenant/b");
    ASSERT_TRUE(owner_->Connect("a").ok());
    ASSERT_TRUE(stranger_->Connect("b").ok());
    owned_ = {};
    owned_.profile = Register();
    for (uint64_t Owned::*which : {&Owned::open, &Owned::sealed, &Owned::pinned}) {
      owned_.*which = OpenAndFill();
    }
    for (const uint64_t sequence : {owned_.sealed, owned_.pinned}) {
      v1::SealSequenceRequest seal;
      seal.set_sequence(sequence);
      v1::SealSequenceResponse sealed;
      ASSERT_TRUE(owner_->control().SealSequence(owner_->Context().get(), seal, &sealed).ok());
    }
    v1::PinSequenceRequest pin;
    pin.set_sequence(owned_.pinned);
    v1::PinSequenceResponse pinned;
    ASSERT_TRUE(owner_->control().PinSequence(owner_->Context().get(), pin, &pinned).ok());
  }

  uint64_t Register() {
    v1::RegisterModelRequest model;
    *model.mutable_model() = TestModel();
    v1::RegisterModelResponse registered;
    EXPECT_TRUE(owner_->control().RegisterModel(owner_->Context().get(), model, &registered).ok());
    v1::RegisterProfileRequest profile;
    profile.set_profile_json(TestProfile()->ToJson());
    v1::RegisterProfileResponse made;
    EXPECT_TRUE(owner_->control().RegisterProfile(owner_->Context().get(), profile, &made).ok());
    return made.profile_id();
  }
  uint64_t OpenAndFill() {
    v1::OpenSequenceRequest open;
    open.set_model(TestModel().fingerprint());
    v1::OpenSequenceResponse opened;
    EXPECT_TRUE(owner_->control().OpenSequence(owner_->Context().get(), open, &opened).ok());
    const uint64_t id = opened.sequence();
    for (uint16_t layer = 0; layer < kLayers; ++layer) {
      EXPECT_TRUE(owner_->Append(id, layer, 0, 64, TestRows(id, layer, 0, 64)).status.ok());
    }
    return id;
  }

  // A client with a certificate of the authority's that names `uri`; without TLS, a client.
  std::unique_ptr<GrpcClient> Of(const std::string& uri, int from_days = -1, int to_days = 30) {
    if (!tls()) return Showing({});
    return Showing(
        authority_->Issue("client" + std::to_string(issued_++),
                          {.uris = {uri}, .valid_from_days = from_days, .valid_to_days = to_days}));
  }
  std::unique_ptr<GrpcClient> Showing(const TlsFiles& files) {
    return std::make_unique<GrpcClient>(ControlAddress(*server_), files);
  }
  // A caller that stole all that the owner's session is proved with.
  std::unique_ptr<GrpcClient> Thief(std::unique_ptr<GrpcClient> client) {
    client->credentials() = owner_->credentials();
    return client;
  }

  grpc::Status Call(GrpcClient& client, const std::string& method) {
    const std::string bytes = ControlCalls().at(method).request(owned_)->SerializeAsString();
    return client.Send(method, ToBuffer(std::as_bytes(std::span(bytes)))).status;
  }

  // All that the owner can see of what it has; what passes by itself is left out.
  std::string OwnersView() {
    std::string out;
    v1::ListSequencesResponse list;
    EXPECT_TRUE(owner_->control().ListSequences(owner_->Context().get(), {}, &list).ok());
    for (v1::Sequence& sequence : *list.mutable_sequences()) {
      sequence.clear_idle_seconds();
      sequence.set_pin_ms(sequence.pin_ms() > 0 ? 1 : 0);
      out += sequence.ShortDebugString() + "\n";
      for (uint16_t layer = 0; layer < kLayers; ++layer) {
        const auto tokens = static_cast<uint32_t>(sequence.committed_tokens());
        EXPECT_EQ(owner_->Read(sequence.id(), layer, 0, tokens).payload,
                  TestRows(sequence.id(), layer, 0, tokens));
      }
    }
    v1::ListModelsResponse models;
    EXPECT_TRUE(owner_->control().ListModels(owner_->Context().get(), {}, &models).ok());
    v1::ListProfilesResponse profiles;
    EXPECT_TRUE(owner_->control().ListProfiles(owner_->Context().get(), {}, &profiles).ok());
    return out + models.ShortDebugString() + profiles.ShortDebugString();
  }
  // And all that the server has.
  std::string WholeView() {
    std::string out = OwnersView();
    for (const char* metric :
         {"passband_sessions", "passband_ready", "passband_memory_used_bytes",
          "passband_sequences{state=\"open\"}", "passband_sequences{state=\"sealed\"}",
          "passband_pins", "passband_pinned_bytes", "passband_stored_tokens",
          "passband_prefix_blocks", "passband_full_attention_bytes_total"}) {
      out += fmt::format("{} {}\n", metric, Metric(*server_, metric));
    }
    return out;
  }

  // Every call but those that anybody may make: `session`, or for operators' calls `operators`.
  void ExpectRefused(const char* who, GrpcClient& client, grpc::StatusCode session,
                     grpc::StatusCode operators) {
    SCOPED_TRACE(who);
    const std::string before = WholeView();
    for (const auto& [method, call] : ControlCalls()) {
      const bool handshake = session == grpc::UNAVAILABLE;
      if (call.access == Access::kAnybody && !handshake) continue;
      const auto expected = call.access == Access::kOperator ? operators : session;
      const grpc::Status status = Call(client, method);
      EXPECT_EQ(status.error_code(), expected) << method << ": " << status.error_message();
    }
    ExpectDataRefused(client, session);
    EXPECT_EQ(WholeView(), before);
  }
  void ExpectDataRefused(GrpcClient& client, grpc::StatusCode code) {
    for (const auto& [method, call] : DataCalls()) {
      const GrpcClient::Answer answer = call.send(client, owned_);
      EXPECT_EQ(answer.status.error_code(), code) << method << answer.status.error_message();
      EXPECT_TRUE(answer.payload.empty()) << method;
    }
  }
  void ExpectUnknown(const char* who, GrpcClient& client) {
    ExpectRefused(who, client, grpc::UNAUTHENTICATED, grpc::PERMISSION_DENIED);
  }
  void ExpectNoHandshake(const char* who, std::unique_ptr<GrpcClient> client) {
    ExpectRefused(who, *Thief(std::move(client)), grpc::UNAVAILABLE, grpc::UNAVAILABLE);
  }

  test::TempFolder folder_;
  std::unique_ptr<CertificateAuthority> authority_;  // null: no TLS
  std::unique_ptr<GrpcClient> owner_, stranger_;
  Owned owned_;
  int issued_ = 0;
};

TEST_P(CredentialsTest, EveryCallHasItsRow) {
  std::set<std::string> rows;
  for (const auto& [method, call] : ControlCalls()) rows.insert(method);
  for (const auto& [method, call] : DataCalls()) rows.insert(method);
  EXPECT_EQ(rows, DescribedMethods());
}

// The calls that others are refused are ones that do something.
TEST_P(CredentialsTest, WhoHasTheRightIsAnswered) {
  for (const auto& [method, call] : ControlCalls()) {
    SCOPED_TRACE(method);
    ASSERT_NO_FATAL_FAILURE(Begin());
    if (call.access != Access::kOperator) {
      const grpc::Status status = Call(*owner_, method);
      EXPECT_TRUE(status.ok()) << status.error_message();
    } else if (tls()) {
      const grpc::Status status = Call(*Of("spiffe://test/operator/ann"), method);
      EXPECT_TRUE(status.ok()) << status.error_message();
    }
  }
  ASSERT_NO_FATAL_FAILURE(Begin());
  for (const auto& [method, call] : DataCalls()) {
    EXPECT_TRUE(call.send(*owner_, owned_).status.ok()) << method;
  }
}

TEST_P(CredentialsTest, WithoutOrWithWrongSecrets) {
  const auto mine = stranger_->credentials();
  const auto& owners = owner_->credentials();
  auto& shown = stranger_->credentials();
  shown = {};
  ExpectUnknown("no session", *stranger_);
  shown = mine;
  shown.session = "00000000000000ff";
  shown.identity.session = 0xff;
  ExpectUnknown("a session that does not exist", *stranger_);
  shown = mine;
  shown.session = owners.session;
  shown.identity.session = owners.identity.session;
  ExpectUnknown("the owner's session without its secrets", *stranger_);
  shown = mine;
  shown.token.back() = shown.token.back() == '0' ? '1' : '0';
  shown.identity.key.back() ^= std::byte{1};
  ExpectUnknown("a wrong token and a wrong key", *stranger_);
  shown = mine;
  shown.token.clear();
  shown.identity.key = {};
  ExpectUnknown("an empty token and an empty key", *stranger_);
  shown = mine;
  v1::DisconnectResponse ended;
  ASSERT_TRUE(stranger_->control().Disconnect(stranger_->Context().get(), {}, &ended).ok());
  ExpectUnknown("a session that has ended", *stranger_);
}

TEST_P(CredentialsTest, DataCallsOfAnotherStartAndReplayed) {
  const std::string before = WholeView();
  owner_->credentials().identity.epoch += 1;
  ExpectDataRefused(*owner_, grpc::UNAUTHENTICATED);
  owner_->credentials().identity.epoch -= 1;
  EXPECT_EQ(Metric(*server_, "passband_transport_errors_total{reason=\"stale_epoch\"}"), 4);
  EXPECT_EQ(WholeView(), before);
  for (const auto& [method, call] : DataCalls()) {
    EXPECT_TRUE(call.send(*owner_, owned_).status.ok()) << method;
    const std::string after = WholeView();
    call.send(*owner_, owned_);  // so that there is one to repeat
    const GrpcClient::Sent overheard = owner_->last_sent();
    for (GrpcClient* client : {owner_.get(), stranger_.get()}) {
      const auto again = client->Send(overheard.method, overheard.message);
      EXPECT_EQ(again.status.error_code(), grpc::UNAUTHENTICATED) << method;
      EXPECT_TRUE(again.payload.empty());
    }
    EXPECT_EQ(WholeView(), after);
  }
}

TEST_P(CredentialsTest, AnotherTenant) {
  for (const auto& [method, call] : ControlCalls()) {
    SCOPED_TRACE(method);
    if (method == "/passband.v1.Control/Disconnect") continue;  // last
    const std::string before = OwnersView();
    const grpc::Status status = Call(*stranger_, method);
    EXPECT_EQ(status.error_code(), call.other_tenant) << status.error_message();
    EXPECT_EQ(OwnersView(), before);
  }
  const std::string before = OwnersView();
  for (const auto& [method, call] : DataCalls()) {
    const GrpcClient::Answer answer = call.send(*stranger_, owned_);
    EXPECT_EQ(answer.status.error_code(), call.other_tenant) << method;
    EXPECT_TRUE(answer.payload.empty());
  }
  // What it is shown is its own: the one sequence that it opened above.
  v1::ListSequencesResponse list;
  ASSERT_TRUE(stranger_->control().ListSequences(stranger_->Context().get(), {}, &list).ok());
  ASSERT_EQ(list.sequences_size(), 1);
  EXPECT_EQ(list.sequences(0).tenant(), "b");
  // Nor can it change what a model of the owner's is.
  v1::RegisterModelRequest other;
  *other.mutable_model() = TestModel();
  other.mutable_model()->set_layers(kLayers + 1);
  v1::RegisterModelResponse registered;
  EXPECT_FALSE(
      stranger_->control().RegisterModel(stranger_->Context().get(), other, &registered).ok());
  EXPECT_TRUE(Call(*stranger_, "/passband.v1.Control/Disconnect").ok());
  EXPECT_EQ(OwnersView(), before);
}

TEST_P(CredentialsTest, StolenSecretsWithAnotherCertificate) {
  if (!tls()) GTEST_SKIP() << "without TLS, the secrets are all there is";
  ExpectUnknown("another tenant's", *Thief(Of("spiffe://test/tenant/b")));
  ExpectUnknown("another one of the same tenant", *Thief(Of("spiffe://test/tenant/a")));
  ExpectUnknown("one of nobody", *Thief(Of("spiffe://test/workload/x")));
  ExpectUnknown("one of an operator who is not listed", *Thief(Of("spiffe://test/operator/eve")));
  EXPECT_EQ(Metric(*server_, "passband_transport_errors_total{reason=\"wrong_certificate\"}"),
            4.0 * static_cast<double>(DataCalls().size()));
  // A certificate of nobody's starts no session either, nor one of b's as a.
  EXPECT_EQ(Of("spiffe://test/workload/x")->Connect("a").error_code(), grpc::UNAUTHENTICATED);
  EXPECT_EQ(Of("spiffe://test/tenant/b")->Connect("a").error_code(), grpc::PERMISSION_DENIED);
}

TEST_P(CredentialsTest, NoHandshakeNoCall) {
  const CertificateAuthority other(folder_.path(), "other");
  TlsFiles foreign = other.Issue("foreign", {.uris = {"spiffe://test/tenant/a"}});
  if (!tls()) return ExpectNoHandshake("TLS where there is none", Showing(foreign));
  foreign.ca = authority_->file();
  ExpectNoHandshake("another authority's certificate", Showing(foreign));
  TlsFiles none;
  none.ca = authority_->file();
  ExpectNoHandshake("no certificate", Showing(none));
  ExpectNoHandshake("no TLS", Showing({}));
  ExpectNoHandshake("an expired certificate", Of("spiffe://test/tenant/a", -3, -1));
  ExpectNoHandshake("one that is not valid yet", Of("spiffe://test/tenant/a", 2, 9));
}

// Nothing is served beside what the table has, but gRPC's own health check.
TEST_P(CredentialsTest, NoOtherServices) {
  for (const char* method :
       {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.channelz.v1.Channelz/GetServers", "/passband.v1.Control/connect",
        "/passband.v1.Control/", "/passband.v2.Control/Connect", "/Connect"}) {
    EXPECT_EQ(owner_->Send(method, ToBuffer({})).status.error_code(), grpc::UNIMPLEMENTED)
        << method;
  }
  EXPECT_TRUE(owner_->Send("/grpc.health.v1.Health/Check", ToBuffer({})).status.ok());
}

INSTANTIATE_TEST_SUITE_P(Ways, CredentialsTest, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "MutualTls" : "Plain"; });

}  // namespace
}  // namespace passband::testing
