// Goal: a tail holds the recent window and what comes after it, bit for bit,
// whatever the sizes of the pieces that made it, and however it was cut.
#include "sdk/tail_buffer.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "gtest/gtest.h"

namespace passband {
namespace {

constexpr size_t kRowBytes = 24;

std::vector<std::byte> MakeRow(uint64_t token, uint32_t head, uint64_t version) {
  const uint64_t parts[3] = {token, head, version};
  std::vector<std::byte> row(kRowBytes);
  std::memcpy(row.data(), parts, kRowBytes);
  return row;
}

TEST(TailBufferTest, HoldsTheNewestRows) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    const auto heads = static_cast<uint32_t>(1 + random() % 3);
    const auto recent = static_cast<uint32_t>(random() % 200);
    const uint64_t start = random() % 3 == 0 ? 0 : random() % 500;
    TailBuffer tail(heads, kRowBytes, recent, start);
    std::vector<uint64_t> versions(start, 0);  // of each token of the sequence
    uint64_t version = 0;
    for (int step = 0; step < 60; ++step) {
      if (random() % 12 == 0) {
        const uint64_t to = tail.end() - std::min<uint64_t>(tail.end(), random() % 150);
        const uint64_t begin = tail.begin();
        tail.Truncate(to);
        versions.resize(to);
        ++version;
        ASSERT_EQ(tail.end(), to);
        ASSERT_EQ(tail.begin(), std::min(begin, to));
        continue;
      }
      const auto count = static_cast<uint32_t>(1 + random() % (64 - tail.end() % 64));
      const uint64_t begin = tail.BeginFor(tail.end() + count);
      const size_t head_stride = (count + random() % 3) * kRowBytes;
      std::vector<std::byte> rows(heads * head_stride);
      for (uint32_t head = 0; head < heads; ++head) {
        for (uint32_t i = 0; i < count; ++i) {
          const auto row = MakeRow(tail.end() + i, head, version);
          std::memcpy(rows.data() + head * head_stride + i * kRowBytes, row.data(), kRowBytes);
        }
      }
      tail.Append(rows.data(), head_stride, count);
      versions.resize(versions.size() + count, version);
      ASSERT_EQ(tail.end(), versions.size());
      ASSERT_EQ(tail.begin(), begin);
      ASSERT_LE(tail.end() - tail.begin(), uint64_t{recent} + 64);
      for (uint32_t head = 0; head < heads; ++head) {
        for (uint64_t token = tail.begin(); token < tail.end(); ++token) {
          const auto row = MakeRow(token, head, versions[token]);
          ASSERT_EQ(std::memcmp(tail.row(head, token), row.data(), kRowBytes), 0)
              << "token " << token << " head " << head;
        }
      }
    }
  }
}

TEST(TailBufferTest, KeepsTheRecentWindowAndTheOpenBlock) {
  TailBuffer tail(1, kRowBytes, 64, 0);
  const std::vector<std::byte> row(kRowBytes);
  for (uint64_t token = 0; token < 1000; ++token) {
    tail.Append(row.data(), kRowBytes, 1);
    const uint64_t recent_start = token + 1 > 64 ? token + 1 - 64 : 0;
    ASSERT_LE(tail.begin(), recent_start);
    ASSERT_EQ(tail.begin() % 64, 0U);
  }
  EXPECT_EQ(tail.memory_bytes(), 2U * 64 * kRowBytes);
}

TEST(TailBufferTest, RowsAreLaidOutForTheService) {
  constexpr uint32_t kHeads = 2;
  TailBuffer tail(kHeads, kRowBytes, 100, 64);
  for (uint64_t token = 64; token < 150; ++token) {
    std::vector<std::byte> rows;
    for (uint32_t head = 0; head < kHeads; ++head) {
      const auto row = MakeRow(token, head, 0);
      rows.insert(rows.end(), row.begin(), row.end());
    }
    tail.Append(rows.data(), kRowBytes, 1);
  }
  std::vector<std::byte> scratch;
  for (const auto& [first, count] : {std::pair<uint64_t, uint32_t>{64, 64}, {70, 13}, {128, 22}}) {
    const std::span<const std::byte> rows = tail.Rows(first, count, scratch);
    ASSERT_EQ(rows.size(), kHeads * count * kRowBytes);
    for (uint32_t head = 0; head < kHeads; ++head) {
      for (uint32_t i = 0; i < count; ++i) {
        const auto row = MakeRow(first + i, head, 0);
        ASSERT_EQ(std::memcmp(rows.data() + (head * count + i) * kRowBytes, row.data(), kRowBytes),
                  0);
      }
    }
  }
}

}  // namespace
}  // namespace passband
