// Goal: rows that a server holds on disk come back over every carrier by the request that fetches
// rows of RAM, byte for byte, while more is being written.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "base/random.h"
#include "base/units.h"
#include "tests/sdk/service_fixture.h"
#include "tests/support/temp_folder.h"

namespace passband::test {
namespace {

constexpr uint64_t kRam = 8 * kMiB;
constexpr uint64_t kTokens = 5 * 1024;  // of a sequence: 3.75 MiB
constexpr int kSequences = 9;           // 4 times RAM

struct Stored {
  SequenceId id;
  ExpectedRows rows;
};

class SpilledRowsTest : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    SCOPED_TRACE(seed_);
    service_.Start(GetParam(),
                   {.ram_bytes = kRam,
                    .server_flags = {"--staging", "4MiB", "--huge-pages=off", "--spill-dir",
                                     folder_.path(), "--spill-limit", "512MiB"},
                    .remote = {.data_timeout = std::chrono::seconds(20)}});
    ASSERT_TRUE(service_->RegisterModel(model_).ok());
  }
  void TearDown() override {
    service_.Disconnect();
    service_.StopServer();
  }

  // A whole sequence, a block of every layer at a time.
  void Store() {
    const auto opened = service_->Open({.model = model_.fingerprint.text()});
    ASSERT_TRUE(opened.ok()) << opened.status();
    stored_.push_back({opened->id, ExpectedRows(model_, random_())});
    ExpectedRows& rows = stored_.back().rows;
    for (uint64_t at = 0; at < kTokens; at += 64) {
      for (uint32_t layer = 0; layer < model_.layers; ++layer) {
        const auto bytes = rows.Grow(layer, 64);
        const Status status = service_->Append({opened->id, layer, at, 64, bytes});
        ASSERT_TRUE(status.ok()) << status;
      }
    }
    const Status flushed = service_->Flush(opened->id);
    ASSERT_TRUE(flushed.ok()) << flushed;
  }

  // One request for rows of several sequences, layers and heads, of RAM and of disk.
  void FetchSome(int groups_wanted) {
    std::vector<std::vector<uint32_t>> tokens;
    std::vector<FetchGroup> groups;
    std::vector<std::byte> want;
    for (int i = 0; i < groups_wanted; ++i) {
      const Stored& from = stored_[random_() % stored_.size()];
      const auto layer = static_cast<uint32_t>(random_() % model_.layers);
      const auto head = static_cast<uint32_t>(random_() % model_.kv_heads);
      std::vector<uint32_t>& list = tokens.emplace_back(1 + random_() % 40);
      for (uint32_t& token : list) {
        token = static_cast<uint32_t>(random_() % kTokens);
        const auto row = from.rows.Row(layer, head, token);
        want.insert(want.end(), row.begin(), row.end());
      }
      groups.push_back({from.id, layer, head, {}});
    }
    for (size_t i = 0; i < groups.size(); ++i) groups[i].tokens = tokens[i];
    const auto pending =
        service_->StartFetch({groups, static_cast<uint32_t>(model_.head.row_bytes()), {}});
    const auto got = pending->Wait();
    ASSERT_TRUE(got.ok()) << got.status();
    ASSERT_EQ(got->size(), want.size());
    ASSERT_TRUE(std::equal(want.begin(), want.end(), got->begin())) << "other bytes";
  }

  uint64_t ResidentBytes() {
    uint64_t bytes = 0;
    for (const Stored& some : stored_) bytes += service_->Stat(some.id)->resident_bytes;
    return bytes;
  }

  const uint64_t seed_ = RandomU64();
  std::mt19937_64 random_{seed_};
  const ModelInfo model_ = SmallModel();
  TempFolder folder_;
  ServiceUnderTest service_;
  std::vector<Stored> stored_;
};

TEST_P(SpilledRowsTest, FetchesAndReadsOfFourTimesRamAreExact) {
  for (int i = 0; i < kSequences; ++i) {
    Store();
    if (HasFatalFailure()) return;
    for (int round = 0; round < 5 && !HasFatalFailure(); ++round) FetchSome(6);
  }
  // Told from the first layer: about what is in RAM, of more than four times as much.
  EXPECT_LE(ResidentBytes(), 2 * kRam) << "nothing left RAM";
  for (int round = 0; round < 100 && !HasFatalFailure(); ++round) FetchSome(12);
  // The whole of one that is long gone from RAM.
  const Stored& oldest = stored_.front();
  for (uint32_t layer = 0; layer < model_.layers; ++layer) {
    for (uint64_t first = 0; first < kTokens; first += 1024) {
      const auto got = service_->StartRead({oldest.id, layer, first, 1024})->Wait();
      ASSERT_TRUE(got.ok()) << got.status();
      const auto want = oldest.rows.Range(layer, first, 1024);
      ASSERT_TRUE(std::equal(want.begin(), want.end(), got->begin(), got->end()));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, SpilledRowsTest,
                         testing::Values(Way::kShm, Way::kTcp, Way::kGrpc, Way::kMtls),
                         [](const auto& each) { return WayName(each.param); });

}  // namespace
}  // namespace passband::test
