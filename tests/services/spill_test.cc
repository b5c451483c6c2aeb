// Goal: a server with more rows than RAM: every row comes back over the same requests, with the
// right bytes; what is wrong with the directory is said at start; the disk is in the metrics.
#include <thread>

#include "base/units.h"
#include "gmock/gmock.h"
#include "tests/services/server_fixture.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kBlockTokens = 64;

class SpillTest : public ServerTest {
 protected:
  void SetUp() override { Start(SpillSettings()); }
  void TearDown() override { server_.reset(); }  // before its folder goes

  server::Settings SpillSettings() const {
    server::Settings settings = SmallSettings();
    settings.spill_dir = folder_.path();
    settings.spill_limit_bytes = 256 * kMiB;
    return settings;
  }
  // Like Fill, but patient: a full arena refuses for as long as it takes to write a block.
  Status FillPatiently(RawClient& client, uint64_t sequence, uint64_t tokens) {
    for (uint64_t first = 0; first < tokens; first += kBlockTokens) {
      for (uint32_t layer = 0; layer < kLayers; ++layer) {
        PASSBAND_RETURN_IF_ERROR(AppendBlock(client, sequence, layer, first));
      }
    }
    return OkStatus();
  }
  static Status AppendBlock(RawClient& client, uint64_t sequence, uint32_t layer, uint64_t first) {
    Status status;
    for (int tries = 0; tries < 500; ++tries) {
      status = client
                   .Append(sequence, static_cast<uint16_t>(layer), first, kBlockTokens, kKvHeads,
                           kRowBytes, TestRows(sequence, layer, first, kBlockTokens))
                   .status;
      if (status.code() != StatusCode::kResourceExhausted) break;
      std::this_thread::sleep_for(RetryAfter(status).value_or(std::chrono::milliseconds(5)));
    }
    return status;
  }
  static void ExpectBlock(RawClient& client, uint64_t sequence, uint32_t layer, uint64_t first) {
    const RawReply reply = client.Read(sequence, static_cast<uint16_t>(layer), first, kBlockTokens);
    ASSERT_TRUE(reply.status.ok()) << reply.status;
    ASSERT_EQ(reply.payload, TestRows(sequence, layer, first, kBlockTokens))
        << "sequence " << sequence << " layer " << layer << " token " << first;
  }

  const test::TempFolder folder_;
};

TEST_F(SpillTest, FourTimesRamIsFetchedBackWhole) {
  const auto client = Client();
  ASSERT_TRUE(client->Hello().ok());
  // 8 sequences of 8 MiB in 16 MiB of RAM.
  constexpr uint64_t kTokens = 8 * kMiB / (uint64_t{kLayers} * kKvHeads * kRowBytes);
  std::vector<uint64_t> sequences;
  for (int i = 0; i < 8; ++i) {
    sequences.push_back(Open(*client));
    const Status filled = FillPatiently(*client, sequences.back(), kTokens);
    ASSERT_TRUE(filled.ok()) << filled;
  }
  for (const uint64_t sequence : sequences) {
    for (uint64_t first = 0; first < kTokens; first += kBlockTokens) {
      for (uint32_t layer = 0; layer < kLayers; ++layer) {
        ExpectBlock(*client, sequence, layer, first);
      }
    }
  }
  // Rows from here and there, of RAM and disk, in one fetch.
  std::mt19937 random(1);
  for (int round = 0; round < 20; ++round) {
    Bytes wanted;
    const RawReply reply = client->Fetch(
        [&](transport::FetchBuilder& fetch) {
          for (const uint64_t sequence : sequences) {
            for (uint16_t head = 0; head < kKvHeads; ++head) {
              std::vector<uint32_t> tokens;
              for (int i = 0; i < 16; ++i) tokens.push_back(random() % kTokens);
              fetch.Add(sequence, 1, head, tokens);
              for (const uint32_t token : tokens) {
                const Bytes row = TestRow(sequence, 1, head, token);
                wanted.insert(wanted.end(), row.begin(), row.end());
              }
            }
          }
        },
        kRowBytes);
    ASSERT_TRUE(reply.status.ok()) << reply.status;
    ASSERT_EQ(reply.payload, wanted);
  }
  EXPECT_GT(Metric(*server_, "passband_spill_bytes_total{direction=\"write\"}"), 40.0 * kMiB);
  EXPECT_GT(Metric(*server_, "passband_spill_bytes_total{direction=\"read\"}"), 40.0 * kMiB);
  EXPECT_GT(Metric(*server_, "passband_block_bytes{tier=\"disk\"}"), 0);
  EXPECT_EQ(Metric(*server_, "passband_lost_blocks_total"), 0);
  EXPECT_EQ(Metric(*server_, "passband_spill_healthy"), 1);
}

TEST_F(SpillTest, AppendingBehindASharedBlockOnDiskIsRefusedUntilItIsBack) {
  const auto client = Client();
  ASSERT_TRUE(client->Hello().ok());
  const uint64_t parent = Open(*client);
  ASSERT_TRUE(FillPatiently(*client, parent, kBlockTokens).ok());
  v1::ForkSequenceRequest fork;
  fork.set_sequence(parent);
  fork.set_tokens(30);
  v1::ForkSequenceResponse forked;
  ASSERT_TRUE(client->stub().ForkSequence(client->Context().get(), fork, &forked).ok());
  const uint64_t hoard = Open(*client);
  ASSERT_TRUE(FillPatiently(*client, hoard, 16 * kMiB / (kLayers * kKvHeads * kRowBytes)).ok());
  RawReply reply;
  for (int tries = 0; tries < 500; ++tries) {
    reply = client->Append(forked.sequence(), 0, 30, 10, kKvHeads, kRowBytes,
                           TestRows(forked.sequence(), 0, 30, 10));
    if (reply.status.code() != StatusCode::kResourceExhausted) break;
    EXPECT_TRUE(RetryAfter(reply.status).has_value());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ASSERT_TRUE(reply.status.ok()) << reply.status;
  EXPECT_EQ(client->Read(forked.sequence(), 0, 0, 30).payload, TestRows(parent, 0, 0, 30));
  EXPECT_EQ(client->Read(forked.sequence(), 0, 30, 10).payload,
            TestRows(forked.sequence(), 0, 30, 10));
  ExpectBlock(*client, parent, 0, 0);
}

TEST_F(SpillTest, AStopWhileRowsAreBroughtBackAnswersThem) {
  const auto client = Client();
  ASSERT_TRUE(client->Hello().ok());
  constexpr uint64_t kTokens = 24 * kMiB / (uint64_t{kLayers} * kKvHeads * kRowBytes);
  const uint64_t sequence = Open(*client);
  ASSERT_TRUE(FillPatiently(*client, sequence, kTokens).ok());
  std::thread stopper([this] { server_->Stop(); });
  for (uint64_t first = 0; first < kTokens; first += kBlockTokens) {
    const RawReply reply = client->Read(sequence, 0, first, kBlockTokens);
    if (!reply.status.ok()) break;
    EXPECT_EQ(reply.payload, TestRows(sequence, 0, first, kBlockTokens));
  }
  stopper.join();
}

TEST(SpillSettingsTest, WhatIsWrongWithTheDirectoryIsSaid) {
  server::Settings settings = SmallSettings();
  settings.spill_dir = "/nowhere/at/all";
  const Status missing = server::Server::Start(settings).status();
  EXPECT_EQ(missing.code(), StatusCode::kNotFound);
  EXPECT_THAT(Message(missing), HasSubstr("--spill-dir"));
  const test::TempFolder folder;
  settings.spill_dir = folder.path();
  const auto first = server::Server::Start(settings);
  ASSERT_TRUE(first.ok()) << first.status();
  const Status locked = server::Server::Start(settings).status();
  EXPECT_EQ(locked.code(), StatusCode::kFailedPrecondition) << locked;
}

}  // namespace
}  // namespace passband::testing
