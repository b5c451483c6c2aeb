// DurableServerTest: a server in a process of its own, with a little RAM and a spill directory
// that outlives it, and what a worker does with it: fills, seals, checks byte by byte.
//
// Threads    one at a time.
// Ownership  the server ends, and its directory goes, with the test.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/services/server_fixture.h"
#include "tests/support/server_process.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {

inline constexpr uint64_t kBlockTokens = 64;
inline constexpr uint64_t kTokenBytes = uint64_t{kLayers} * kKvHeads * kRowBytes;

class DurableServerTest : public ::testing::Test {
 protected:
  void SetUp() override { Run(); }

  void Run(const std::vector<std::string>& more = {}) { RunOn(folder_.path(), more); }
  void RunOn(const std::string& directory, const std::vector<std::string>& more = {}) {
    server_.reset();
    std::vector<std::string> flags = {
        "--ram",       "8MiB",    "--staging",     "4MiB",  "--huge-pages=off",
        "--spill-dir", directory, "--spill-limit", "256MiB"};
    flags.insert(flags.end(), more.begin(), more.end());
    auto server = test::ServerProcess::Start({.binary = PASSBAND_SERVER, .flags = flags});
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
  void Close(uint64_t sequence) {
    v1::CloseSequenceRequest request;
    request.set_sequence(sequence);
    v1::CloseSequenceResponse response;
    const auto status = client_->stub().CloseSequence(client_->Context().get(), request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  double Metric(const std::string& series) {
    return testing::Metric("127.0.0.1", server_->http_port(), series);
  }
  double SealsPending() {
    return Metric("passband_seals_pending{work=\"seal\"}") +
           Metric("passband_seals_pending{work=\"erase\"}");
  }
  // Waits for it, for some seconds.
  static bool Eventually(const std::function<bool()>& true_now) {
    for (int i = 0; i < 600 && !true_now(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return true_now();
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

}  // namespace passband::testing
