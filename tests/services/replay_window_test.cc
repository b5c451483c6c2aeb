// Goal: no request id is taken twice, and those of a session that goes on are all taken.
#include "services/server/replay_window.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace passband::server {
namespace {

TEST(ReplayWindowTest, EachIdIsGoodOnce) {
  ReplayWindow window;
  EXPECT_FALSE(window.Take(0));
  for (const uint64_t id : {1, 3, 2, 1000, 999}) EXPECT_TRUE(window.Take(id)) << id;
  for (const uint64_t id : {1, 3, 2, 1000, 999}) EXPECT_FALSE(window.Take(id)) << id;
}

TEST(ReplayWindowTest, WhatIsFarBehindIsRefused) {
  ReplayWindow window;
  EXPECT_TRUE(window.Take(5000));
  EXPECT_TRUE(window.Take(5000 - ReplayWindow::kWidth + 1));
  EXPECT_FALSE(window.Take(5000 - ReplayWindow::kWidth));
  EXPECT_TRUE(window.Take(UINT64_MAX));
  EXPECT_FALSE(window.Take(UINT64_MAX));
  EXPECT_FALSE(window.Take(5001));
}

TEST(ReplayWindowTest, AgainstASetOfAllThatWereTaken) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  ReplayWindow window;
  std::set<uint64_t> taken;
  uint64_t newest = 0;
  for (int i = 0; i < 100'000; ++i) {
    const uint64_t ahead = random() % 100 == 0 ? random() % 3000 : random() % 3;
    const uint64_t back = std::min(newest, random() % (2 * ReplayWindow::kWidth));
    const uint64_t id = random() % 2 == 0 ? newest + ahead : newest - back;
    const bool fresh =
        id != 0 && !taken.contains(id) && (id > newest || newest - id < ReplayWindow::kWidth);
    ASSERT_EQ(window.Take(id), fresh) << id << " after " << newest;
    if (fresh) taken.insert(id);
    newest = std::max(newest, fresh ? id : newest);
  }
}

}  // namespace
}  // namespace passband::server
