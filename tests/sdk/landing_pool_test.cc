// Goal: buffers never overlap, come back warm, and a pool at its cap makes room from
// what nobody uses, or says which setting to raise.

#include "sdk/landing_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "base/random.h"
#include "base/units.h"

namespace passband {
namespace {

std::shared_ptr<LandingPool> Pool(uint64_t max_bytes) {
  return LandingPool::Create(nullptr, {max_bytes, "landing_bytes"});
}

TEST(LandingPool, GivesTheBufferThatWasFreedLast) {
  const auto pool = Pool(64 * kMiB);
  auto first = pool->Allocate(kMiB);
  ASSERT_TRUE(first.ok());
  auto second = pool->Allocate(kMiB);
  ASSERT_TRUE(second.ok());
  const std::byte* warm = second->bytes().data();
  *second = LandingBuffer();
  const auto third = pool->Allocate(kMiB);
  ASSERT_TRUE(third.ok());
  EXPECT_EQ(third->bytes().data(), warm);
}

TEST(LandingPool, CountsWhatIsInUse) {
  const auto pool = Pool(64 * kMiB);
  EXPECT_EQ(pool->used_bytes(), 0u);
  {
    const auto buffer = pool->Allocate(100'000);
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(buffer->bytes().size(), 100'000u);
    EXPECT_GE(pool->used_bytes(), 100'000u);
    EXPECT_LE(pool->used_bytes(), 125'000u);
  }
  EXPECT_EQ(pool->used_bytes(), 0u);
}

TEST(LandingPool, SaysWhatToRaiseWhenItIsFull) {
  const auto pool = Pool(16 * kMiB);
  const auto held = pool->Allocate(12 * kMiB);
  ASSERT_TRUE(held.ok()) << held.status();
  const auto more = pool->Allocate(12 * kMiB);
  EXPECT_EQ(more.status().code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(more.status()), ::testing::HasSubstr("landing_bytes"));
}

TEST(LandingPool, MemoryOfOneSizeServesAnotherWhenItIsFree) {
  const auto pool = Pool(16 * kMiB);
  for (const uint64_t bytes : {12 * kMiB, 5 * kMiB, 64 * kKiB, 16 * kMiB, uint64_t{1}}) {
    const auto buffer = pool->Allocate(bytes);
    EXPECT_TRUE(buffer.ok()) << bytes << ": " << buffer.status();
  }
  EXPECT_LE(pool->mapped_bytes(), 16 * kMiB);
}

TEST(LandingPool, ABufferOutlivesThePool) {
  auto pool = Pool(16 * kMiB);
  auto buffer = pool->Allocate(kMiB);
  ASSERT_TRUE(buffer.ok());
  pool.reset();
  std::memset(buffer->bytes().data(), 1, buffer->bytes().size());
}

TEST(LandingPool, BuffersDoNotOverlap) {
  const uint64_t seed = RandomU64();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto pool = Pool(256 * kMiB);
  struct Held {
    LandingBuffer buffer;
    std::byte mark;
  };
  std::vector<Held> held;
  for (int step = 0; step < 2000; ++step) {
    if (held.size() < 40 && random() % 2 == 0) {
      const uint64_t bytes = uint64_t{1} << (random() % 22);
      auto buffer = pool->Allocate(bytes + random() % bytes);
      ASSERT_TRUE(buffer.ok()) << buffer.status();
      held.push_back({*std::move(buffer), static_cast<std::byte>(random())});
      // Both ends: what lies between two buffers is what overlaps first.
      held.back().buffer.bytes().front() = held.back().mark;
      held.back().buffer.bytes().back() = held.back().mark;
    } else if (!held.empty()) {
      const size_t which = random() % held.size();
      ASSERT_EQ(held[which].buffer.bytes().front(), held[which].mark);
      ASSERT_EQ(held[which].buffer.bytes().back(), held[which].mark);
      std::swap(held[which], held.back());
      held.pop_back();
    }
  }
}

}  // namespace
}  // namespace passband
