// Goal: a server that is killed, and one that is told to stop, has what was sealed when it runs
// again over the same directory: the same bytes, prefixes, models and profiles.
#include <thread>

#include "gmock/gmock.h"
#include "tests/services/server_fixture.h"
#include "tests/support/server_process.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kBlockTokens = 64;
constexpr uint64_t kTokenBytes = uint64_t{kLayers} * kKvHeads * kRowBytes;

class RestartTest : public ::testing::Test {
 protected:
  void SetUp() override { Run(); }

  void Run() {
    server_.reset();
    auto server = test::ServerProcess::Start(
        {.binary = PASSBAND_SERVER,
         .flags = {"--ram", "8MiB", "--staging", "4MiB", "--huge-pages=off", "--spill-dir",
                   folder_.path(), "--spill-limit", "256MiB"}});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    client_ = std::make_unique<RawClient>(server_->control_address(), "a");
    ASSERT_TRUE(client_->Hello().ok());
  }
  void KillAndRun() {
    server_->Kill();
    client_.reset();
    Run();
  }

  void Register() {
    v1::RegisterModelRequest model;
    *model.mutable_model() = TestModel();
    v1::RegisterModelResponse registered;
    const auto status = client_->stub().RegisterModel(client_->Context().get(), model, &registered);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  uint64_t Open(const std::vector<uint32_t>& tokens = {}, uint64_t* matched = nullptr) {
    v1::OpenSequenceRequest request;
    request.set_model(TestModel().fingerprint());
    request.set_share_prefix(true);
    for (const uint32_t token : tokens) request.add_token_ids(token);
    v1::OpenSequenceResponse response;
    const auto status = client_->stub().OpenSequence(client_->Context().get(), request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    if (matched != nullptr) *matched = response.matched_tokens();
    return response.sequence();
  }
  // `salt` instead of the sequence's id makes the rows.
  Status Fill(uint64_t sequence, uint64_t salt, uint64_t tokens) {
    for (uint64_t first = 0; first < tokens; first += kBlockTokens) {
      const auto count = static_cast<uint32_t>(std::min(kBlockTokens, tokens - first));
      for (uint16_t layer = 0; layer < kLayers; ++layer) {
        Status status;
        for (int tries = 0; tries < 1000; ++tries) {
          status = client_
                       ->Append(sequence, layer, first, count, kKvHeads, kRowBytes,
                                TestRows(salt, layer, first, count))
                       .status;
          if (status.code() != StatusCode::kResourceExhausted) break;
          std::this_thread::sleep_for(RetryAfter(status).value_or(std::chrono::milliseconds(5)));
        }
        PASSBAND_RETURN_IF_ERROR(status);
      }
    }
    return OkStatus();
  }
  Status Check(uint64_t sequence, uint64_t salt, uint64_t tokens) {
    for (uint64_t first = 0; first < tokens; first += kBlockTokens) {
      const auto count = static_cast<uint32_t>(std::min(kBlockTokens, tokens - first));
      for (uint16_t layer = 0; layer < kLayers; ++layer) {
        const RawReply reply = client_->Read(sequence, layer, first, count);
        PASSBAND_RETURN_IF_ERROR(reply.status);
        if (reply.payload != TestRows(salt, layer, first, count)) {
          return Error(StatusCode::kInternal, "wrong bytes at {} of layer {}", first, layer);
        }
      }
    }
    return OkStatus();
  }
  grpc::Status Seal(uint64_t sequence) {
    v1::SealSequenceRequest request;
    request.set_sequence(sequence);
    v1::SealSequenceResponse response;
    return client_->stub().SealSequence(client_->Context().get(), request, &response);
  }
  grpc::StatusCode StatCode(uint64_t sequence) {
    v1::StatSequenceRequest request;
    request.set_sequence(sequence);
    v1::StatSequenceResponse response;
    return client_->stub().StatSequence(client_->Context().get(), request, &response).error_code();
  }
  uint64_t RegisterProfile() {
    v1::RegisterProfileRequest request;
    request.set_profile_json(TestProfile()->ToJson());
    v1::RegisterProfileResponse response;
    const auto status =
        client_->stub().RegisterProfile(client_->Context().get(), request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.profile_id();
  }

  const test::TempFolder folder_;
  std::unique_ptr<test::ServerProcess> server_;
  std::unique_ptr<RawClient> client_;
};

TEST_F(RestartTest, WhatWasSealedSurvivesAKill) {
  Register();
  const uint64_t profile = RegisterProfile();
  constexpr uint64_t kTokens = (uint64_t{4} << 20) / kTokenBytes;
  std::vector<uint32_t> prompt(kTokens, 7);
  // Four times RAM, of which all but the last is sealed.
  std::vector<uint64_t> sequences;
  for (uint64_t i = 0; i < 8; ++i) {
    prompt.front() = static_cast<uint32_t>(i);
    sequences.push_back(Open(prompt));
    const Status filled = Fill(sequences.back(), i, kTokens);
    ASSERT_TRUE(filled.ok()) << filled;
    if (i < 7) {
      const auto sealed = Seal(sequences.back());
      ASSERT_TRUE(sealed.ok()) << sealed.error_message();
    }
  }
  for (uint64_t i = 0; i < 8; ++i) {
    EXPECT_TRUE(Check(sequences[i], i, kTokens).ok()) << Check(sequences[i], i, kTokens);
  }
  KillAndRun();
  for (uint64_t i = 0; i < 7; ++i) {
    EXPECT_TRUE(Check(sequences[i], i, kTokens).ok()) << Check(sequences[i], i, kTokens);
  }
  EXPECT_EQ(StatCode(sequences[7]), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Check(sequences[7], 7, 64).code(), StatusCode::kNotFound);
  // The model is known, so is the prefix; the profile has the id it had.
  uint64_t matched = 0;
  prompt.front() = 3;
  const uint64_t next = Open(prompt, &matched);
  EXPECT_EQ(matched, kTokens);
  for (const uint64_t sequence : sequences) EXPECT_NE(next, sequence);
  EXPECT_TRUE(Check(next, 3, kTokens).ok());
  EXPECT_TRUE(client_->Slices(sequences[0], profile, 0, 0, 64).status.ok());
  EXPECT_EQ(RegisterProfile(), profile);
}

TEST_F(RestartTest, AStopKeepsWhatIsOpen) {
  Register();
  const uint64_t empty = Open();
  const uint64_t open = Open();
  ASSERT_TRUE(Fill(open, 1, 1000).ok());
  EXPECT_EQ(server_->Stop(), 0) << server_->Log();
  EXPECT_THAT(server_->Log(), HasSubstr("sealing"));
  client_.reset();
  Run();
  EXPECT_TRUE(Check(open, 1, 1000).ok()) << Check(open, 1, 1000);
  EXPECT_EQ(StatCode(empty), grpc::StatusCode::NOT_FOUND);
  // Twice: nothing is left to be done, and nothing is lost.
  EXPECT_EQ(server_->Stop(), 0);
  client_.reset();
  Run();
  EXPECT_TRUE(Check(open, 1, 1000).ok());
}

TEST_F(RestartTest, AClosedSequenceStaysClosed) {
  Register();
  const uint64_t sequence = Open();
  ASSERT_TRUE(Fill(sequence, 1, 100).ok());
  ASSERT_TRUE(Seal(sequence).ok());
  v1::CloseSequenceRequest close;
  close.set_sequence(sequence);
  v1::CloseSequenceResponse closed;
  ASSERT_TRUE(client_->stub().CloseSequence(client_->Context().get(), close, &closed).ok());
  EXPECT_EQ(server_->Stop(), 0);
  client_.reset();
  Run();
  EXPECT_EQ(StatCode(sequence), grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace passband::testing
