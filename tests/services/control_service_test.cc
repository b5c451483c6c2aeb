// Goal: every call of the control plane does its work, and refuses who may not make it.
#include <gmock/gmock.h>

#include <numeric>
#include <random>

#include "services/grpc_status.h"
#include "tests/services/server_fixture.h"

namespace passband::testing {
namespace {

class ControlServiceTest : public ServerTest {
 protected:
  void SetUp() override {
    ServerTest::SetUp();
    client_ = Client("a");
  }

  // Makes a call of a session with the given identity; its code.
  grpc::StatusCode StatAs(const std::string& session, const std::string& token, uint64_t sequence) {
    v1::StatSequenceRequest request;
    request.set_sequence(sequence);
    v1::StatSequenceResponse response;
    return client_->stub()
        .StatSequence(RawClient::Context(session, token).get(), request, &response)
        .error_code();
  }

  std::unique_ptr<RawClient> client_;
};

std::vector<uint32_t> Tokens(size_t count) {
  std::vector<uint32_t> out(count);
  std::iota(out.begin(), out.end(), 1U);
  return out;
}

TEST_F(ControlServiceTest, ConnectTellsWhatAWorkerNeeds) {
  const v1::ConnectResponse& session = client_->session();
  EXPECT_EQ(session.protocol_version(), 1U);
  EXPECT_EQ(session.secret().size(), 16U);
  EXPECT_FALSE(session.data_address().empty());
  EXPECT_EQ(session.lease_ms(), 30'000U);
  EXPECT_EQ(session.block_tokens(), 64U);
  EXPECT_EQ(session.max_reply_bytes(), SmallSettings().staging_bytes);
  EXPECT_GT(session.max_outstanding(), 0U);
  EXPECT_NE(session.epoch(), 0U);
  EXPECT_EQ(session.tenant(), "a");
  // A name of its own: host and port.
  EXPECT_THAT(session.node(), ::testing::ContainsRegex(".+:[1-9][0-9]*$"));
  EXPECT_EQ(session.capabilities_size(), 5);
}

TEST_F(ControlServiceTest, ConnectRefusesAnotherProtocolAndBadTenants) {
  v1::ConnectRequest request;
  v1::ConnectResponse response;
  request.set_protocol_version(2);
  grpc::ClientContext first;
  EXPECT_EQ(client_->stub().Connect(&first, request, &response).error_code(),
            grpc::FAILED_PRECONDITION);
  request.set_protocol_version(1);
  request.set_tenant("no such/tenant");
  grpc::ClientContext second;
  EXPECT_EQ(client_->stub().Connect(&second, request, &response).error_code(),
            grpc::INVALID_ARGUMENT);
}

TEST_F(ControlServiceTest, CallsNeedTheRightSessionAndToken) {
  const uint64_t sequence = Open(*client_);
  const std::string id = fmt::format("{:016x}", client_->session().session());
  const std::string token = client_->session().token();
  const auto other = Client("a");
  EXPECT_EQ(StatAs(id, token, sequence), grpc::OK);
  EXPECT_EQ(StatAs(id, other->session().token(), sequence), grpc::UNAUTHENTICATED);
  EXPECT_EQ(StatAs("0123456789abcdef", token, sequence), grpc::UNAUTHENTICATED);
  EXPECT_EQ(StatAs("not hexadecimal", token, sequence), grpc::UNAUTHENTICATED);
  EXPECT_EQ(StatAs("", "", sequence), grpc::UNAUTHENTICATED);
  grpc::ClientContext bare;
  v1::HeartbeatResponse response;
  EXPECT_EQ(client_->stub().Heartbeat(&bare, {}, &response).error_code(), grpc::UNAUTHENTICATED);
}

TEST_F(ControlServiceTest, HeartbeatCountsSelections) {
  v1::HeartbeatRequest request;
  request.set_selected_rows(10);
  request.set_hot_rows(4);
  request.set_full_attention_bytes(1000);
  v1::HeartbeatResponse response;
  ASSERT_TRUE(client_->stub().Heartbeat(client_->Context().get(), request, &response).ok());
  EXPECT_EQ(response.lease_ms(), 30'000U);
  v1::InfoResponse info;
  grpc::ClientContext context;
  ASSERT_TRUE(client_->stub().Info(&context, {}, &info).ok());
  EXPECT_EQ(info.selected_rows(), 10U);
  EXPECT_EQ(info.hot_rows(), 4U);
  EXPECT_EQ(info.full_attention_bytes(), 1000U);
}

TEST_F(ControlServiceTest, DisconnectClosesWhatIsNotSealed) {
  const uint64_t open = Open(*client_);
  const uint64_t sealed = Open(*client_);
  v1::SealSequenceRequest seal;
  seal.set_sequence(sealed);
  v1::SealSequenceResponse sealed_response;
  ASSERT_TRUE(client_->stub().SealSequence(client_->Context().get(), seal, &sealed_response).ok());
  v1::DisconnectResponse response;
  ASSERT_TRUE(client_->stub().Disconnect(client_->Context().get(), {}, &response).ok());
  EXPECT_EQ(response.closed_sequences(), 1U);
  EXPECT_EQ(client_->stub().Disconnect(client_->Context().get(), {}, &response).error_code(),
            grpc::UNAUTHENTICATED);
  const auto next = Client("a");
  EXPECT_FALSE(Exists(*next, open));
  EXPECT_TRUE(Exists(*next, sealed));
}

TEST_F(ControlServiceTest, ModelsAreRegisteredOnceAndChecked) {
  v1::RegisterModelRequest request;
  *request.mutable_model() = TestModel();
  v1::RegisterModelResponse response;
  const auto code = [&] {
    return client_->stub().RegisterModel(client_->Context().get(), request, &response).error_code();
  };
  EXPECT_EQ(code(), grpc::OK);
  EXPECT_EQ(code(), grpc::OK);
  request.mutable_model()->set_layers(3);
  EXPECT_EQ(code(), grpc::ALREADY_EXISTS);
  const std::function<void(v1::Model&)> kBad[] = {
      [](v1::Model& model) { model.set_fingerprint(""); },
      [](v1::Model& model) { model.set_layers(0); },
      [](v1::Model& model) { model.set_layers(4'000'000); },
      [](v1::Model& model) { model.set_kv_heads(0); },
      [](v1::Model& model) { model.set_kv_heads(5000); },
      [](v1::Model& model) { model.set_head_dim(0); },
      [](v1::Model& model) { model.set_head_dim(65536 + 64); },
      [](v1::Model& model) { model.set_rotary_dim(3); },
      [](v1::Model& model) { model.set_rotary_dim(128); },
      [](v1::Model& model) { model.set_dtype("int3"); },
      [](v1::Model& model) { model.set_rope_layout(""); },
  };
  for (const auto& spoil : kBad) {
    *request.mutable_model() = TestModel();
    request.mutable_model()->set_fingerprint("new");
    spoil(*request.mutable_model());
    EXPECT_EQ(code(), grpc::INVALID_ARGUMENT) << request.DebugString();
  }
  v1::ListModelsResponse listed;
  ASSERT_TRUE(client_->stub().ListModels(client_->Context().get(), {}, &listed).ok());
  ASSERT_EQ(listed.models_size(), 1);
  EXPECT_EQ(listed.models(0).SerializeAsString(), TestModel().SerializeAsString());
}

TEST_F(ControlServiceTest, ProfilesNeedTheirModelAndKeepTheirId) {
  v1::RegisterProfileRequest request;
  request.set_profile_json(TestProfile()->ToJson());
  v1::RegisterProfileResponse response;
  const auto code = [&] {
    return client_->stub()
        .RegisterProfile(client_->Context().get(), request, &response)
        .error_code();
  };
  EXPECT_EQ(code(), grpc::NOT_FOUND);
  Open(*client_);
  ASSERT_EQ(code(), grpc::OK);
  const uint64_t id = response.profile_id();
  EXPECT_NE(id, 0U);
  ASSERT_EQ(code(), grpc::OK);
  EXPECT_EQ(response.profile_id(), id);
  request.set_profile_json("{\"format\": 1");
  EXPECT_EQ(code(), grpc::INVALID_ARGUMENT);
  v1::ListProfilesResponse listed;
  ASSERT_TRUE(client_->stub().ListProfiles(client_->Context().get(), {}, &listed).ok());
  ASSERT_EQ(listed.profiles_size(), 1);
  EXPECT_EQ(listed.profiles(0).digest(), TestProfile()->digest());
  EXPECT_EQ(listed.profiles(0).encoding(), "int4");
  EXPECT_EQ(listed.profiles(0).chunks(), 4U);
}

TEST_F(ControlServiceTest, SequencesLiveTheirWholeLife) {
  ASSERT_TRUE(client_->Hello().ok());
  const uint64_t sequence = Open(*client_, Tokens(130));
  ASSERT_TRUE(Fill(*client_, sequence, 0, 130).ok());
  v1::Control::Stub& stub = client_->stub();

  v1::ExtendSequenceRequest extend;
  extend.set_sequence(sequence);
  extend.set_first(130);
  extend.add_token_ids(131);
  v1::ExtendSequenceResponse extended;
  EXPECT_TRUE(stub.ExtendSequence(client_->Context().get(), extend, &extended).ok());

  v1::StatSequenceRequest stat;
  stat.set_sequence(sequence);
  v1::StatSequenceResponse info;
  ASSERT_TRUE(stub.StatSequence(client_->Context().get(), stat, &info).ok());
  EXPECT_EQ(info.sequence().tenant(), "a");
  EXPECT_EQ(info.sequence().committed_tokens(), 130U);
  EXPECT_EQ(info.sequence().known_tokens(), 131U);
  EXPECT_EQ(info.sequence().state(), v1::SEQUENCE_STATE_OPEN);

  v1::LookupRequest lookup;
  lookup.set_model(TestModel().fingerprint());
  for (const uint32_t token : Tokens(200)) lookup.add_token_ids(token);
  v1::LookupResponse found;
  ASSERT_TRUE(stub.Lookup(client_->Context().get(), lookup, &found).ok());
  EXPECT_EQ(found.matched_tokens(), 128U);

  v1::ForkSequenceRequest fork;
  fork.set_sequence(sequence);
  fork.set_tokens(100);
  v1::ForkSequenceResponse forked;
  ASSERT_TRUE(stub.ForkSequence(client_->Context().get(), fork, &forked).ok());
  EXPECT_TRUE(Exists(*client_, forked.sequence()));

  v1::TruncateSequenceRequest truncate;
  truncate.set_sequence(sequence);
  truncate.set_tokens(64);
  v1::TruncateSequenceResponse truncated;
  ASSERT_TRUE(stub.TruncateSequence(client_->Context().get(), truncate, &truncated).ok());
  ASSERT_TRUE(stub.StatSequence(client_->Context().get(), stat, &info).ok());
  EXPECT_EQ(info.sequence().committed_tokens(), 64U);

  v1::ListSequencesRequest list;
  v1::ListSequencesResponse listed;
  ASSERT_TRUE(stub.ListSequences(client_->Context().get(), list, &listed).ok());
  EXPECT_EQ(listed.sequences_size(), 2);

  v1::CloseSequenceRequest close;
  close.set_sequence(sequence);
  v1::CloseSequenceResponse closed;
  ASSERT_TRUE(stub.CloseSequence(client_->Context().get(), close, &closed).ok());
  EXPECT_FALSE(Exists(*client_, sequence));
  EXPECT_EQ(stub.CloseSequence(client_->Context().get(), close, &closed).error_code(),
            grpc::NOT_FOUND);
}

TEST_F(ControlServiceTest, AnotherTenantsSequenceIsNotFound) {
  const uint64_t sequence = Open(*client_);
  const auto stranger = Client("b");
  EXPECT_FALSE(Exists(*stranger, sequence));
  v1::CloseSequenceRequest close;
  close.set_sequence(sequence);
  v1::CloseSequenceResponse closed;
  EXPECT_EQ(stranger->stub().CloseSequence(stranger->Context().get(), close, &closed).error_code(),
            grpc::NOT_FOUND);
  v1::ForkSequenceRequest fork;
  fork.set_sequence(sequence);
  v1::ForkSequenceResponse forked;
  EXPECT_EQ(stranger->stub().ForkSequence(stranger->Context().get(), fork, &forked).error_code(),
            grpc::NOT_FOUND);
  v1::ListSequencesResponse listed;
  ASSERT_TRUE(stranger->stub().ListSequences(stranger->Context().get(), {}, &listed).ok());
  EXPECT_EQ(listed.sequences_size(), 0);
  EXPECT_TRUE(Exists(*client_, sequence));
}

TEST_F(ControlServiceTest, InfoNeedsNoSession) {
  v1::InfoResponse info;
  grpc::ClientContext context;
  ASSERT_TRUE(client_->stub().Info(&context, {}, &info).ok());
  EXPECT_EQ(info.epoch(), client_->session().epoch());
  EXPECT_EQ(info.sessions(), 1U);
  EXPECT_GT(info.memory().capacity_bytes(), 0U);
  EXPECT_EQ(info.http_address(), server::HostPort("127.0.0.1", server_->endpoints().http_port));
}

TEST_F(ControlServiceTest, RetryAfterIsInTheTrailingMetadata) {
  server::Settings settings = SmallSettings();
  settings.max_sessions = 1;
  client_.reset();
  Start(settings);
  client_ = Client("a");
  v1::ConnectRequest request;
  request.set_protocol_version(1);
  v1::ConnectResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(client_->stub().Connect(&context, request, &response).error_code(),
            grpc::RESOURCE_EXHAUSTED);
  const auto& trailing = context.GetServerTrailingMetadata();
  const auto found = trailing.find(kRetryAfterMetadata);
  ASSERT_NE(found, trailing.end());
  EXPECT_GT(std::stoi(std::string(found->second.data(), found->second.size())), 0);
}

TEST_F(ControlServiceTest, OverlongMessagesAreRefused) {
  v1::RegisterProfileRequest request;
  request.set_profile_json(std::string(20 << 20, 'x'));
  v1::RegisterProfileResponse response;
  EXPECT_EQ(
      client_->stub().RegisterProfile(client_->Context().get(), request, &response).error_code(),
      grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Get(*server_, "/healthz"), "ok\n");
}

TEST_F(ControlServiceTest, RandomBytesOnThePortDoNoHarm) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(SendRandomBytes(server_->endpoints().control_port, random,
                                i % 2 == 0 ? "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" : ""));
  }
  EXPECT_EQ(Open(*client_) != 0, true);
}

}  // namespace
}  // namespace passband::testing
