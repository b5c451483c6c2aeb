// Goal: over a real server, what nobody uses for its TTL goes, also what a stop sealed and nobody
// opened again; what is used or pinned stays; and a client that opens without closing is bounded and seen.
#include <thread>

#include "gmock/gmock.h"
#include "tests/services/server_fixture.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class LifetimeTest : public ServerTest {
 protected:
  uint64_t OpenFor(RawClient& client, uint64_t ttl_ms) {
    Open(client);  // registers the model
    v1::OpenSequenceRequest request;
    request.set_model(TestModel().fingerprint());
    request.set_ttl_ms(ttl_ms);
    v1::OpenSequenceResponse response;
    const grpc::Status status =
        client.stub().OpenSequence(client.Context().get(), request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.sequence();
  }
  v1::Sequence Stat(RawClient& client, uint64_t sequence) {
    v1::StatSequenceRequest request;
    request.set_sequence(sequence);
    v1::StatSequenceResponse response;
    client.stub().StatSequence(client.Context().get(), request, &response);
    return response.sequence();
  }
  bool GoesWithin(RawClient& client, uint64_t sequence, seconds patience) {
    const Time until = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < until) {
      if (!Exists(client, sequence)) return true;
      std::this_thread::sleep_for(milliseconds(20));
    }
    return false;
  }
};

TEST_F(LifetimeTest, WhatIsFetchedStaysAndWhatIsNotGoes) {
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  const uint64_t used = OpenFor(*client, 5000);
  const uint64_t unused = OpenFor(*client, 300);
  ASSERT_TRUE(Fill(*client, used, 0, 64).ok());
  EXPECT_EQ(Stat(*client, used).ttl_ms(), 5000U);
  // Twice as long as its TTL, with the reaper at work the while.
  const Time until = std::chrono::steady_clock::now() + seconds(10);
  while (std::chrono::steady_clock::now() < until) {
    const RawReply read = client->Read(used, 0, 0, 64);
    ASSERT_TRUE(read.status.ok()) << read.status;
    ASSERT_EQ(read.payload, TestRows(used, 0, 0, 64));
    std::this_thread::sleep_for(milliseconds(200));
  }
  EXPECT_FALSE(Exists(*client, unused));
  EXPECT_EQ(Metric(*server_, "passband_sequences_reaped_total"), 1);
  EXPECT_TRUE(GoesWithin(*client, used, seconds(30)));
}

TEST_F(LifetimeTest, WhatAStopSealedStaysForItsTtlOnly) {
  const test::TempFolder folder;
  server::Settings settings = SmallSettings();
  settings.spill_dir = folder.path();
  settings.spill_limit_bytes = uint64_t{256} << 20;
  Start(settings);
  uint64_t sequence = 0;
  {
    const auto client = Client("a");
    ASSERT_TRUE(client->Hello().ok());
    sequence = Open(*client);
    ASSERT_TRUE(Fill(*client, sequence, 0, 64).ok());
    // Open, and its worker still there, when the server is told to stop.
    server_->Stop();
  }
  settings.sequence_ttl = seconds(2);
  Start(settings);
  const auto client = Client("a");
  EXPECT_EQ(Stat(*client, sequence).state(), v1::SEQUENCE_STATE_SEALED);
  EXPECT_EQ(Stat(*client, sequence).ttl_ms(), 2000U);
  EXPECT_TRUE(GoesWithin(*client, sequence, seconds(30)));
  // And does not come back.
  server_.reset();
  settings.sequence_ttl = {};
  Start(settings);
  EXPECT_FALSE(Exists(*Client("a"), sequence));
}

TEST_F(LifetimeTest, APinOutlivesItsWorkerAndAStop) {
  const test::TempFolder folder;
  server::Settings settings = SmallSettings();
  settings.spill_dir = folder.path();
  settings.spill_limit_bytes = uint64_t{256} << 20;
  settings.sequence_ttl = seconds(1);
  settings.pin_limit_bytes = uint64_t{1} << 20;
  Start(settings);
  uint64_t sequence = 0;
  {
    const auto client = Client("a");
    ASSERT_TRUE(client->Hello().ok());
    sequence = Open(*client);
    ASSERT_TRUE(Fill(*client, sequence, 0, 64).ok());
    v1::SealSequenceRequest seal;
    seal.set_sequence(sequence);
    v1::SealSequenceResponse sealed;
    ASSERT_TRUE(client->stub().SealSequence(client->Context().get(), seal, &sealed).ok());
    v1::PinSequenceRequest pin;
    pin.set_sequence(sequence);
    pin.set_ttl_ms(600'000);
    v1::PinSequenceResponse pinned;
    const grpc::Status status = client->stub().PinSequence(client->Context().get(), pin, &pinned);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(Metric(*server_, "passband_pinned_bytes"), kLayers * kBlockBytes);
    v1::DisconnectResponse bye;
    ASSERT_TRUE(client->stub().Disconnect(client->Context().get(), {}, &bye).ok());
  }
  std::this_thread::sleep_for(milliseconds(3500));
  EXPECT_TRUE(Exists(*Client("a"), sequence));
  EXPECT_EQ(Metric(*server_, "passband_pins"), 1);
  server_->Stop();
  Start(settings);
  const auto client = Client("a");
  const uint64_t left = Stat(*client, sequence).pin_ms();
  EXPECT_GT(left, 0U);
  EXPECT_LT(left, 598'000U);
  const Time until = std::chrono::steady_clock::now() + seconds(20);
  while (Metric(*server_, "passband_pins") != 1 && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_EQ(Metric(*server_, "passband_pinned_bytes"), kLayers * kBlockBytes);
  EXPECT_TRUE(Exists(*client, sequence));
  v1::UnpinSequenceRequest unpin;
  unpin.set_sequence(sequence);
  v1::UnpinSequenceResponse unpinned;
  ASSERT_TRUE(client->stub().UnpinSequence(client->Context().get(), unpin, &unpinned).ok());
  EXPECT_EQ(Metric(*server_, "passband_pins"), 0);
  EXPECT_TRUE(GoesWithin(*client, sequence, seconds(30)));
}

TEST_F(LifetimeTest, OpeningWithoutClosingIsBoundedAndSeen) {
  server::Settings settings = SmallSettings();
  // Few, that no machine is too slow to open within the TTL.
  settings.max_sequences = 100;
  settings.sequence_ttl = seconds(5);
  Start(settings);
  const auto client = Client("a");
  Open(*client);  // registers the model
  v1::OpenSequenceRequest request;
  request.set_model(TestModel().fingerprint());
  grpc::Status status;
  std::string retry_after;
  int refused_at = 0;
  for (; status.ok() && refused_at < 200; ++refused_at) {
    v1::OpenSequenceResponse response;
    const auto context = client->Context();
    status = client->stub().OpenSequence(context.get(), request, &response);
    const auto& trailing = context->GetServerTrailingMetadata();
    const auto found = trailing.find("passband-retry-after-ms");
    if (found != trailing.end()) retry_after.assign(found->second.data(), found->second.size());
  }
  EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED) << status.error_message();
  EXPECT_FALSE(retry_after.empty());
  EXPECT_EQ(Metric(*server_, "passband_sequences{state=\"open\"}"), 100);
  const Time until = std::chrono::steady_clock::now() + seconds(30);
  while (Metric(*server_, "passband_sequences{state=\"open\"}") > 0 &&
         std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(milliseconds(50));
  }
  EXPECT_EQ(Metric(*server_, "passband_sequences_reaped_total"), 100);
  EXPECT_NE(Open(*client), 0U);
}

}  // namespace
}  // namespace passband::testing
