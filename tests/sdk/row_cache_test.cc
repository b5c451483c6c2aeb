// Goal: a row cache behaves as the simplest least-recently-selected cache does,
// keeps what a step selected in place, and never hands out stale bytes.
#include "sdk/row_cache.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "gtest/gtest.h"

namespace passband {
namespace {

// Content of a row: `version` changes when its token is truncated.
void Fill(std::byte* row, size_t row_bytes, uint64_t token, uint64_t version) {
  std::memset(row, static_cast<int>(token * 31 + version), row_bytes);
  std::memcpy(row, &token, sizeof token);
  std::memcpy(row + sizeof token, &version, sizeof version);
}

// The model: tokens with the step of their last selection.
class PlainLru {
 public:
  explicit PlainLru(size_t slots) : slots_(slots) {}

  void BeginStep() { ++step_; }
  bool Select(uint32_t token) {
    const auto it = selected_.find(token);
    if (it == selected_.end()) return false;
    it->second = step_;
    return true;
  }
  bool Insert(uint32_t token) {
    if (selected_.size() == slots_) {
      const auto oldest = std::min_element(
          selected_.begin(), selected_.end(),
          [](const auto& a, const auto& b) { return a.second < b.second; });  // ties: older token
      if (oldest == selected_.end() || oldest->second == step_) return false;
      selected_.erase(oldest);
    }
    selected_[token] = step_;
    return true;
  }
  void Truncate(uint64_t tokens) {
    selected_.erase(selected_.lower_bound(static_cast<uint32_t>(tokens)), selected_.end());
  }
  size_t size() const { return selected_.size(); }

 private:
  size_t slots_;
  uint64_t step_ = 1;
  std::map<uint32_t, uint64_t> selected_;
};

struct Walk {
  explicit Walk(uint64_t seed)
      : random(seed),
        slots(static_cast<uint32_t>(random() % 40)),
        slab(2, slots, kRowBytes),
        cache(&slab, 1),
        model(slots) {}

  static constexpr size_t kRowBytes = 48;

  // One step over random tokens; returns the number of operations.
  int Step() {
    cache.BeginStep();
    model.BeginStep();
    std::set<uint32_t> chosen;
    const uint64_t wanted = random() % (slots + 10);
    while (chosen.size() < std::min<uint64_t>(wanted, length)) {
      // Often near a moving centre, so that there are hits and evictions.
      const uint64_t spread = random() % 4 == 0 ? length : 64;
      chosen.insert(static_cast<uint32_t>((centre + random() % spread) % length));
    }
    centre += random() % 5;
    std::vector<uint32_t> missing;
    std::map<uint32_t, const std::byte*> held;
    for (const uint32_t token : chosen) {
      const std::byte* row = cache.Select(token);
      EXPECT_EQ(row != nullptr, model.Select(token)) << "token " << token;
      if (row == nullptr) {
        missing.push_back(token);
      } else {
        held[token] = row;
      }
    }
    for (const uint32_t token : missing) {
      std::byte* row = cache.Insert(token);
      EXPECT_EQ(row != nullptr, model.Insert(token)) << "token " << token;
      if (row == nullptr) continue;
      Fill(row, kRowBytes, token, versions[token]);
      held[token] = row;
    }
    std::vector<std::byte> expected(kRowBytes);
    for (const auto& [token, row] : held) {
      Fill(expected.data(), kRowBytes, token, versions[token]);
      EXPECT_EQ(std::memcmp(row, expected.data(), kRowBytes), 0) << "token " << token;
    }
    EXPECT_EQ(cache.rows(), model.size());
    return static_cast<int>(chosen.size() + missing.size());
  }

  void Truncate() {
    const uint64_t tokens = random() % (length + 1);
    cache.Truncate(tokens);
    model.Truncate(tokens);
    for (uint64_t token = tokens; token < length; ++token) ++versions[static_cast<uint32_t>(token)];
  }

  std::mt19937_64 random;
  uint32_t slots;
  RowSlab slab;
  RowCache cache;
  PlainLru model;
  uint64_t length = 300;
  uint64_t centre = 0;
  std::map<uint32_t, uint64_t> versions;
};

TEST(RowCacheTest, BehavesAsThePlainModel) {
  int operations = 0;
  for (int round = 0; operations < 100'000; ++round) {
    const uint64_t seed = std::random_device{}();
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Walk walk(seed);
    for (int step = 0; step < 200 && !::testing::Test::HasFailure(); ++step) {
      operations += 1 + walk.Step();
      if (walk.random() % 16 == 0) walk.Truncate();
    }
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(RowCacheTest, TakesNoMemoryForRowsBeforeTheFirst) {
  RowSlab slab(4, 1000, 512);
  RowCache cache(&slab, 3);
  cache.BeginStep();
  EXPECT_EQ(cache.Select(7), nullptr);
  EXPECT_EQ(slab.memory_bytes(), 0U);
  ASSERT_NE(cache.Insert(7), nullptr);
  EXPECT_EQ(slab.memory_bytes(), 4U * 1000 * 512);
}

TEST(RowCacheTest, CachesOfOneSlabDoNotOverlap) {
  RowSlab slab(3, 16, 64);
  std::vector<RowCache> caches;
  for (uint32_t i = 0; i < 3; ++i) caches.emplace_back(&slab, i);
  for (uint32_t i = 0; i < 3; ++i) {
    for (uint32_t token = 0; token < 16; ++token) Fill(caches[i].Insert(token), 64, token, i);
  }
  std::vector<std::byte> expected(64);
  for (uint32_t i = 0; i < 3; ++i) {
    for (uint32_t token = 0; token < 16; ++token) {
      Fill(expected.data(), 64, token, i);
      EXPECT_EQ(std::memcmp(caches[i].Select(token), expected.data(), 64), 0);
    }
  }
}

TEST(RowCacheTest, MemoryIsBoundedByTheContext) {
  RowSlab slab(1, 256, 64);
  RowCache cache(&slab, 0);
  for (uint32_t token = 0; token < 100'000; ++token) {
    cache.BeginStep();
    ASSERT_NE(cache.Insert(token), nullptr);
  }
  EXPECT_EQ(cache.rows(), 256U);
  EXPECT_LE(cache.memory_bytes(), 100'000U * 2 * 2 + 256U * 64);
}

}  // namespace
}  // namespace passband
