// Goal: a server that is killed, and one that is told to stop, has what was sealed when it runs
// again over the same directory: the same bytes, prefixes, models and profiles.
#include "gmock/gmock.h"
#include "tests/services/durable_server_fixture.h"

namespace passband::testing {
namespace {

using ::testing::HasSubstr;

class RestartTest : public DurableServerTest {};

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
