// Goal: buffers never overlap, come back in any order, and a full memory says no.
#include "services/server/staging.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace passband::server {
namespace {

constexpr size_t kPage = Staging::kPageBytes;

std::unique_ptr<Staging> Make(uint64_t bytes) {
  auto ucx = transport::UcxContext::Create({});
  EXPECT_TRUE(ucx.ok()) << ucx.status();
  auto staging = Staging::Create(*ucx, bytes, /*huge_pages=*/false);
  EXPECT_TRUE(staging.ok()) << staging.status();
  return *std::move(staging);
}

TEST(StagingTest, FillsUpRefusesAndRecovers) {
  const auto staging = Make(4 * kPage);
  auto a = staging->Allocate(2 * kPage);
  auto b = staging->Allocate(2 * kPage);
  ASSERT_TRUE(a && b);
  EXPECT_FALSE(staging->Allocate(1).has_value());
  a.reset();
  EXPECT_FALSE(staging->Allocate(3 * kPage).has_value());
  EXPECT_TRUE(staging->Allocate(2 * kPage).has_value());
  b.reset();
  EXPECT_EQ(staging->used_bytes(), 0U);
  EXPECT_TRUE(staging->Allocate(4 * kPage).has_value());
}

TEST(StagingTest, MoreThanThereIsIsRefused) {
  const auto staging = Make(2 * kPage);
  EXPECT_FALSE(staging->Allocate(2 * kPage + 1).has_value());
}

TEST(StagingTest, OneThatIsNeverGivenBackDoesNotBlockTheOthers) {
  const auto staging = Make(4 * kPage);
  const auto stuck = staging->Allocate(kPage);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(staging->Allocate(3 * kPage).has_value());
}

TEST(StagingTest, BuffersAreRegisteredAndAsLongAsAsked) {
  const auto staging = Make(kPage);
  const auto buffer = staging->Allocate(100);
  ASSERT_TRUE(buffer.has_value());
  EXPECT_EQ(buffer->bytes().size(), 100U);
  EXPECT_TRUE(staging->memory()->Contains(buffer->bytes()));
}

// Random takings and givings; each buffer carries its own byte, which must survive.
TEST(StagingTest, LiveBuffersNeverOverlap) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto staging = Make(64 * kPage);
  struct Live {
    Staging::Buffer buffer;
    std::byte mark;
  };
  std::vector<Live> live;
  size_t refused = 0;
  for (int step = 0; step < 5000; ++step) {
    if (live.empty() || random() % 3 != 0) {
      auto buffer = staging->Allocate(1 + random() % (9 * kPage));
      if (!buffer.has_value()) {
        ++refused;
      } else {
        const auto mark = static_cast<std::byte>(random());
        std::fill(buffer->bytes().begin(), buffer->bytes().end(), mark);
        live.push_back({*std::move(buffer), mark});
        continue;
      }
    }
    if (live.empty()) continue;
    std::swap(live[random() % live.size()], live.back());
    const Live& last = live.back();
    const auto bytes = last.buffer.bytes();
    ASSERT_TRUE(
        std::all_of(bytes.begin(), bytes.end(), [&](std::byte byte) { return byte == last.mark; }));
    live.pop_back();
  }
  EXPECT_GT(refused, 0U);
  live.clear();
  EXPECT_EQ(staging->used_bytes(), 0U);
  EXPECT_TRUE(staging->Allocate(64 * kPage).has_value());
}

}  // namespace
}  // namespace passband::server
