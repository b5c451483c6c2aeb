// Goal: the arena gives disjoint aligned blocks until it is full, takes any of them
// back, lets no block size strand memory for another, and says clearly why it
// cannot be had.
#include "kvstore/arena.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <set>

#include "base/thread.h"
#include "base/units.h"
#include "kvstore/block_home.h"

namespace passband {
namespace {

std::unique_ptr<Arena> Make(const Arena::Options& options) {
  auto arena = Arena::Create(options);
  EXPECT_TRUE(arena.ok()) << arena.status();
  return *std::move(arena);
}

TEST(ArenaTest, RefusesSizesThatMakeNoSense) {
  EXPECT_EQ(Arena::Create({.bytes = 0}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Arena::Create({.bytes = 1000}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Arena::Create({.bytes = kMiB, .slab_bytes = 5000}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(Arena::Create({.bytes = kMiB, .slab_bytes = 2 * kMiB}).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(ArenaTest, SaysWhatWasAskedForAndWhatThereIs) {
  const Status status = Arena::Create({.bytes = 1024 * 1024 * kGiB}).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status), testing::HasSubstr("1024.00 TiB of RAM asked for"));
  EXPECT_THAT(Message(status), testing::EndsWith("available: ask for less, or free some"));
}

TEST(ArenaTest, FileDescriptorShowsTheSameBytesAndCannotShrink) {
  const auto arena = Make({.bytes = 4 * kMiB});
  BlockHome home(*arena, nullptr);
  const BlockRef block = home.Create(4096, 1);
  std::memset(block->data(), 0x5A, 4096);
  void* other = mmap(nullptr, arena->bytes(), PROT_READ, MAP_SHARED, arena->fd(), 0);
  ASSERT_NE(other, MAP_FAILED);
  EXPECT_EQ(std::memcmp(static_cast<std::byte*>(other) + (block->data() - arena->data()),
                        block->data(), 4096),
            0);
  munmap(other, arena->bytes());
  EXPECT_NE(ftruncate(arena->fd(), 0), 0);
}

TEST(ArenaTest, PreTouchMakesEveryPageResident) {
  const auto arena = Make({.bytes = 8 * kMiB, .touch_threads = 2});
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> resident(arena->bytes() / page);
  ASSERT_EQ(mincore(arena->data(), arena->bytes(), resident.data()), 0);
  EXPECT_THAT(resident, testing::Each(testing::Truly([](unsigned char r) { return r & 1; })));
  EXPECT_LE(arena->huge_page_bytes(), arena->bytes());
}

TEST(ArenaTest, BlocksAreAlignedDisjointAndAllOfTheArena) {
  const auto arena = Make({.bytes = 4 * kMiB});
  BlockHome home(*arena, nullptr);
  EXPECT_EQ(arena->max_block_bytes(), 256 * kKiB);
  std::vector<BlockRef> blocks;
  std::set<std::byte*> starts;
  while (BlockRef block = home.Create(8192, 1)) {
    EXPECT_EQ(reinterpret_cast<uint64_t>(block->data()) % 64, 0u);
    EXPECT_GE(block->data(), arena->data());
    EXPECT_LE(block->data() + 8192, arena->data() + arena->bytes());
    starts.insert(block->data());
    blocks.push_back(std::move(block));
  }
  EXPECT_EQ(blocks.size(), 4 * kMiB / 8192);
  EXPECT_EQ(starts.size(), blocks.size());
  EXPECT_EQ(arena->used_bytes(), arena->bytes());
  std::byte* previous = nullptr;
  for (std::byte* start : starts) {
    if (previous != nullptr) {
      EXPECT_GE(start - previous, 8192);
    }
    previous = start;
  }
}

TEST(ArenaTest, NoSizeStrandsMemoryForAnother) {
  const auto arena = Make({.bytes = 4 * kMiB});
  BlockHome home(*arena, nullptr);
  for (const uint64_t bytes : {1024, 98304, 64, 262144, 3072, 1024}) {
    std::vector<BlockRef> blocks;
    while (BlockRef block = home.Create(bytes, 1)) blocks.push_back(std::move(block));
    EXPECT_EQ(blocks.size(), 16 * (256 * kKiB / bytes)) << bytes;
  }
  EXPECT_EQ(arena->used_bytes(), 0u);
}

TEST(ArenaTest, RandomSizesNeverOverlapAndAllComeBack) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto arena = Make({.bytes = kMiB});
  BlockHome home(*arena, nullptr);
  std::vector<std::pair<BlockRef, std::byte>> blocks;
  for (int i = 0; i < 50'000; ++i) {
    if (random() % 2 == 0) {
      const uint64_t bytes = 64 * (1 + random() % 5 * 100);
      BlockRef block = home.Create(bytes, 1);
      if (!block) continue;
      const auto mark = static_cast<std::byte>(random());
      std::memset(block->data(), static_cast<int>(mark), bytes);
      blocks.emplace_back(std::move(block), mark);
    } else if (!blocks.empty()) {
      std::swap(blocks[random() % blocks.size()], blocks.back());
      const auto& [block, mark] = blocks.back();
      ASSERT_EQ(block->data()[0], mark);
      ASSERT_EQ(block->data()[block->bytes() - 1], mark);
      blocks.pop_back();
    }
  }
  blocks.clear();
  EXPECT_EQ(arena->used_bytes(), 0u);
}

TEST(ArenaTest, ThreadsShareIt) {
  const auto arena = Make({.bytes = kMiB});
  BlockHome home(*arena, nullptr);
  {
    std::vector<std::jthread> threads;
    for (uint64_t i = 0; i < 4; ++i) {
      threads.push_back(StartThread("arena", [&, i](const std::stop_token&) {
        std::vector<BlockRef> mine;
        for (int round = 0; round < 5'000; ++round) {
          if (BlockRef block = home.Create(1024 << (i % 2), 1)) {
            std::memset(block->data(), static_cast<int>(i), block->bytes());
            mine.push_back(std::move(block));
          }
          if (mine.size() > 100) mine.clear();
        }
      }));
    }
  }
  EXPECT_EQ(arena->used_bytes(), 0u);
}

TEST(ArenaDeathTest, DyingBeforeItsSlotsIsAMistake) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        const auto arena = Make({.bytes = kMiB});
        (void)arena->Allocate(64, nullptr);
      },
      "used_bytes");
}

}  // namespace
}  // namespace passband
