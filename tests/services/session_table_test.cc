// Goal: sessions are proved, live while used, end once, and end when their worker is gone.
#include "services/server/session_table.h"

#include <atomic>
#include <latch>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace passband::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ManualClock final : public Clock {
 public:
  Time Now() const override { return Time(Duration(now_.load())); }
  void Advance(Duration by) { now_ += by.count(); }

 private:
  std::atomic<int64_t> now_{Duration(seconds(1000)).count()};
};

class SessionTableTest : public ::testing::Test {
 protected:
  std::string Id(const Session& session) { return fmt::format("{:016x}", session.id()); }

  ManualClock clock_;
  std::vector<uint64_t> ended_;
  SessionTable table_{{.lease = seconds(30),
                       .reconnect_grace = seconds(2),
                       .max_sessions = 3,
                       .data_threads = 2,
                       .clock = &clock_},
                      [this](const Session& session) {
                        EXPECT_TRUE(session.ended());
                        ended_.push_back(session.id());
                        return uint64_t{7};
                      }};
};

TEST_F(SessionTableTest, OpenedSessionsDifferAndTakeTurnsOnThreads) {
  const auto a = *table_.Open("x", "");
  const auto b = *table_.Open("x", "");
  EXPECT_NE(a->id(), b->id());
  EXPECT_NE(a->secret(), b->secret());
  EXPECT_NE(a->token(), b->token());
  EXPECT_EQ(a->token().size(), 32U);
  EXPECT_EQ(a->epoch(), table_.epoch());
  EXPECT_NE(a->data_thread(), b->data_thread());
}

TEST_F(SessionTableTest, OnlyTheRightTokenProves) {
  const auto session = *table_.Open("x", "");
  const auto other = *table_.Open("x", "");
  EXPECT_EQ(*table_.Authenticate(Id(*session), session->token()), session);
  std::string changed = session->token();
  changed[31] = changed[31] == '0' ? '1' : '0';
  const std::pair<std::string, std::string> kWrong[] = {
      {Id(*session), ""},
      {Id(*session), other->token()},
      {Id(*session), changed},
      {Id(*session), session->token() + "0"},
      {"", session->token()},
      {"xyz", session->token()},
      {"-1", session->token()},
      {Id(*session) + "0", session->token()},
      {fmt::format("{:016x}", session->id() + 1), session->token()},
      {std::string(5000, 'f'), session->token()},
  };
  for (const auto& [id, token] : kWrong) {
    EXPECT_EQ(table_.Authenticate(id, token).status().code(), StatusCode::kUnauthenticated)
        << id << " " << token;
  }
}

TEST_F(SessionTableTest, TenantNamesAreChecked) {
  EXPECT_EQ((*table_.Open("", ""))->tenant(), kDefaultTenant);
  EXPECT_TRUE(table_.Open("team-1.prod_eu", "").ok());
  for (const std::string& name : {std::string("a b"), std::string("a/b"), std::string("a\n"),
                                  std::string(65, 'a'), std::string("a\0b", 3)}) {
    EXPECT_EQ(table_.Open(name, "").status().code(), StatusCode::kInvalidArgument) << name;
  }
}

TEST_F(SessionTableTest, ClientNamesAreMadePrintable) {
  const auto session = *table_.Open("x", "evil\nname" + std::string(1000, 'y'));
  EXPECT_EQ(session->client().substr(0, 9), "evil?name");
  EXPECT_LE(session->client().size(), 128U);
}

TEST_F(SessionTableTest, LimitIsKeptAndFreedPlacesAreUsed) {
  std::vector<uint64_t> ids;
  for (int i = 0; i < 3; ++i) ids.push_back((*table_.Open("x", ""))->id());
  const Status full = table_.Open("x", "").status();
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(RetryAfter(full).has_value());
  ASSERT_TRUE(table_.End(ids[0], EndReason::kDisconnected).ok());
  EXPECT_TRUE(table_.Open("x", "").ok());
}

TEST_F(SessionTableTest, EndRunsOnceAndForgets) {
  const auto session = *table_.Open("x", "");
  EXPECT_EQ(*table_.End(session->id(), EndReason::kDisconnected), 7U);
  EXPECT_EQ(table_.End(session->id(), EndReason::kDisconnected).status().code(),
            StatusCode::kUnauthenticated);
  EXPECT_EQ(ended_, std::vector<uint64_t>{session->id()});
  EXPECT_EQ(table_.Find(session->id()), nullptr);
  EXPECT_FALSE(table_.Authenticate(Id(*session), session->token()).ok());
  EXPECT_EQ(table_.ended(EndReason::kDisconnected), 1U);
}

TEST_F(SessionTableTest, LeaseEndsTheSilentAndKeepsTheUsed) {
  const auto silent = *table_.Open("x", "");
  const auto used = *table_.Open("x", "");
  clock_.Advance(seconds(29));
  EXPECT_TRUE(table_.Authenticate(Id(*used), used->token()).ok());
  EXPECT_EQ(table_.Reap(), 0U);
  clock_.Advance(seconds(2));
  EXPECT_EQ(table_.Reap(), 1U);
  EXPECT_EQ(ended_, std::vector<uint64_t>{silent->id()});
  EXPECT_EQ(table_.ended(EndReason::kLeaseExpired), 1U);
  table_.Touch(*used);
  clock_.Advance(seconds(29));
  EXPECT_EQ(table_.Reap(), 0U);
}

TEST_F(SessionTableTest, LostConnectionEndsAfterTheGrace) {
  const auto session = *table_.Open("x", "");
  table_.ConnectionLost(*session);
  clock_.Advance(milliseconds(1999));
  EXPECT_EQ(table_.Reap(), 0U);
  clock_.Advance(milliseconds(1));
  EXPECT_EQ(table_.Reap(), 1U);
  EXPECT_EQ(table_.ended(EndReason::kConnectionLost), 1U);
}

TEST_F(SessionTableTest, WorkerThatComesBackInTimeKeepsItsSession) {
  const auto session = *table_.Open("x", "");
  table_.ConnectionLost(*session);
  clock_.Advance(seconds(1));
  table_.Touch(*session);
  clock_.Advance(seconds(20));
  EXPECT_EQ(table_.Reap(), 0U);
  clock_.Advance(seconds(10));
  EXPECT_EQ(table_.Reap(), 1U);
  EXPECT_EQ(table_.ended(EndReason::kLeaseExpired), 1U);
}

TEST(SessionTableThreadsTest, EachSessionEndsOnceWhateverRaces) {
  std::atomic<uint64_t> ends{0};
  SessionTable table({.max_sessions = 1000}, [&](const Session&) {
    ++ends;
    return uint64_t{0};
  });
  std::vector<uint64_t> ids;
  for (int i = 0; i < 200; ++i) ids.push_back((*table.Open("x", ""))->id());
  std::latch start(4);
  std::atomic<uint64_t> successes{0};
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        start.arrive_and_wait();
        for (const uint64_t id : ids) {
          successes += table.End(id, EndReason::kDisconnected).ok() ? 1 : 0;
        }
      });
    }
  }
  EXPECT_EQ(successes, 200U);
  EXPECT_EQ(ends, 200U);
  EXPECT_EQ(table.size(), 0U);
}

TEST(SessionTableThreadsTest, ReaperEndsTheExpired) {
  std::latch ended(1);
  SessionTable table({.lease = milliseconds(1)}, [&](const Session&) {
    ended.count_down();
    return uint64_t{0};
  });
  ASSERT_TRUE(table.Open("x", "").ok());
  table.StartReaper();
  ended.wait();
  table.StopReaper();
}

}  // namespace
}  // namespace passband::server
