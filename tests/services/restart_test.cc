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

// Sealed or not, and closed: what is on the disk of them is found by its tokens.
TEST_F(RestartTest, PrefixesOfClosedSequencesSurviveAKill) {
  Register();
  constexpr uint64_t kTokens = (uint64_t{4} << 20) / kTokenBytes;
  std::vector<uint32_t> prompt(kTokens, 7);
  // Eight times RAM: all but the latest has left it.
  for (uint64_t i = 0; i < 16; ++i) {
    prompt.front() = static_cast<uint32_t>(i);
    const uint64_t sequence = Open(prompt);
    const Status filled = Fill(sequence, i, kTokens);
    ASSERT_TRUE(filled.ok()) << filled;
    if (i % 2 == 0) {
      ASSERT_TRUE(Seal(sequence).ok());
    }
    Close(sequence);
  }
  constexpr double kColumns = 12 * kTokens / kBlockTokens;
  ASSERT_TRUE(Eventually([&] { return Metric("passband_recorded_prefix_blocks") >= kColumns; }))
      << Metric("passband_recorded_prefix_blocks") << " of " << kColumns;
  ASSERT_TRUE(Eventually([&] { return SealsPending() == 0; }));
  KillAndRun();
  EXPECT_EQ(Metric("passband_restored_sequences"), 0);
  EXPECT_GE(Metric("passband_restored_prefix_blocks"), kColumns);
  uint64_t found = 0;
  for (uint64_t i = 0; i < 16; ++i) {
    prompt.front() = static_cast<uint32_t>(i);
    uint64_t matched = 0;
    const uint64_t sequence = Open(prompt, &matched);
    if (i % 2 == 0) {
      EXPECT_EQ(matched, kTokens) << i;
    }
    EXPECT_TRUE(Check(sequence, i, matched).ok()) << Check(sequence, i, matched);
    found += matched / kBlockTokens;
    Close(sequence);
  }
  EXPECT_GE(found, kColumns);
  // Another tenant's, of the same tokens, they are not.
  client_ = std::make_unique<RawClient>(server_->control_address(), "b");
  ASSERT_TRUE(client_->Hello().ok());
  uint64_t matched = 0;
  Open(prompt, &matched);
  EXPECT_EQ(matched, 0U);
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
  Close(sequence);
  EXPECT_EQ(server_->Stop(), 0);
  client_.reset();
  Run();
  EXPECT_EQ(StatCode(sequence), grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace passband::testing
