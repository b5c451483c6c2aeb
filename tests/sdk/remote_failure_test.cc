// Goal: a server that dies, hangs or comes back never hangs a client, never makes it
// return wrong bytes, and is named in the error.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "base/clock.h"
#include "base/random.h"
#include "base/thread.h"
#include "tests/sdk/service_fixture.h"

namespace passband::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr uint64_t kTokens = 640;

Time Now() { return std::chrono::steady_clock::now(); }

class RemoteFailure : public ::testing::TestWithParam<Way> {
 protected:
  void Start(ServiceSetup setup = {}) {
    service_.Start(GetParam(), std::move(setup));
    if (HasFatalFailure()) return;
    const Status registered = service_->RegisterModel(model_);
    ASSERT_TRUE(registered.ok()) << registered;
    Fill();
  }

  void Fill() {
    const auto opened = service_->Open({.model = model_.fingerprint.text(), .token_ids = {}});
    ASSERT_TRUE(opened.ok()) << opened.status();
    id_ = opened->id;
    const Status appended = AppendUpTo(*service_, model_, id_, rows_, kTokens, random_);
    ASSERT_TRUE(appended.ok()) << appended;
  }

  // A fetch of random rows of one head, and what it must give.
  struct Fetch {
    std::vector<uint32_t> tokens;
    std::vector<std::byte> want;
    std::unique_ptr<PendingRows> pending;
  };
  Fetch StartFetch(size_t count, std::mt19937_64& random) {
    Fetch out;
    out.tokens.resize(count);
    for (uint32_t& token : out.tokens) token = static_cast<uint32_t>(random() % kTokens);
    for (const uint32_t token : out.tokens) {
      const auto row = rows_.Row(1, 0, token);
      out.want.insert(out.want.end(), row.begin(), row.end());
    }
    const FetchGroup group{id_, 1, 0, out.tokens};
    out.pending =
        service_->StartFetch({{&group, 1}, static_cast<uint32_t>(model_.head.row_bytes()), {}});
    return out;
  }

  Status Collect(Fetch& fetch) {
    const auto got = fetch.pending->Wait();
    if (!got.ok()) return got.status();
    EXPECT_TRUE(std::equal(got->begin(), got->end(), fetch.want.begin(), fetch.want.end()))
        << "wrong bytes";
    return OkStatus();
  }

  Status FetchOnce(size_t count, std::mt19937_64& random) {
    Fetch fetch = StartFetch(count, random);
    return Collect(fetch);
  }

  const uint64_t seed_ = RandomU64();
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  const ModelInfo model_ = SmallModel();
  ExpectedRows rows_{model_, random_()};
  ServiceUnderTest service_;
  SequenceId id_;
};

TEST_P(RemoteFailure, AServerKilledUnderFetchesIsUnavailableWithinThreeSeconds) {
  ServiceSetup setup;
  // The death must be noticed, not timed out.
  setup.remote.data_timeout = seconds(30);
  ASSERT_NO_FATAL_FAILURE(Start(setup));
  std::atomic<int> served{0};
  std::atomic<bool> over{false};
  Time ended;
  Status last;
  std::jthread fetching = StartThread("fetching", [&](std::stop_token) {
    std::mt19937_64 random(seed_ + 1);
    while (last.ok()) {
      last = FetchOnce(20'000, random);
      ++served;
    }
    ended = Now();
    over = true;
  });
  while (served < 20 && !over) std::this_thread::yield();
  const Time killed = Now();
  service_.server()->Kill();
  fetching.join();
  EXPECT_EQ(last.code(), StatusCode::kUnavailable) << last;
  EXPECT_THAT(Message(last), HasSubstr("127.0.0.1:"));
  EXPECT_THAT(Message(last), HasSubstr("connect again"));
  EXPECT_LT(Seconds(ended - killed), 3.0);
  // From here on every call says so at once.
  const Time start = Now();
  EXPECT_EQ(FetchOnce(1, random_).code(), StatusCode::kUnavailable);
  EXPECT_EQ(service_->Flush(id_).code(), StatusCode::kUnavailable);
  EXPECT_EQ(service_->Stat(id_).status().code(), StatusCode::kUnavailable);
  EXPECT_LT(Seconds(Now() - start), 1.0);
}

TEST_P(RemoteFailure, AServerKilledUnderAppendsIsUnavailableWithinThreeSeconds) {
  ServiceSetup setup;
  setup.remote.data_timeout = seconds(30);
  setup.remote.append_bytes = 1 << 20;
  setup.ram_bytes = 512 << 20;
  ASSERT_NO_FATAL_FAILURE(Start(setup));
  std::atomic<int> appended{0};
  std::atomic<bool> over{false};
  Status last;
  std::jthread appending = StartThread("appending", [&](std::stop_token) {
    const auto block = rows_.Grow(0, 64);
    for (uint64_t at = kTokens; last.ok(); at += 64) {
      last = service_->Append({id_, 0, at, 64, block});
      ++appended;
    }
    over = true;
  });
  while (appended < 100 && !over) std::this_thread::yield();
  const Time killed = Now();
  service_.server()->Kill();
  appending.join();
  EXPECT_EQ(last.code(), StatusCode::kUnavailable) << last;
  EXPECT_EQ(service_->Flush(id_).code(), StatusCode::kUnavailable);
  EXPECT_LT(Seconds(Now() - killed), 3.0);
  EXPECT_THAT(Message(last), HasSubstr("127.0.0.1:"));
}

TEST_P(RemoteFailure, AnIdleClientNoticesADeadServer) {
  ASSERT_NO_FATAL_FAILURE(Start());
  service_.server()->Kill();
  const Time start = Now();
  const Status status = FetchOnce(10, random_);
  EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
  EXPECT_LT(Seconds(Now() - start), 3.0);
}

TEST_P(RemoteFailure, AHungServerCostsTheDeadlineAndItsLateReplyIsDropped) {
  ServiceSetup setup;
  setup.remote.data_timeout = milliseconds(400);
  ASSERT_NO_FATAL_FAILURE(Start(setup));
  ASSERT_TRUE(FetchOnce(100, random_).ok());
  ASSERT_EQ(service_.remote()->landing_bytes_in_use(), 0u);
  service_.server()->Pause();
  const Time start = Now();
  for (int i = 0; i < 3; ++i) {
    const Status status = FetchOnce(5000, random_);
    EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded) << status;
    EXPECT_THAT(Message(status), HasSubstr("127.0.0.1:"));
  }
  EXPECT_GE(Seconds(Now() - start), 1.2);
  EXPECT_LT(Seconds(Now() - start), 3.0);
  if (GetParam() != Way::kGrpc) {
    // Nobody waits for them, and still their memory has no other use. (What comes over gRPC
    // lands in gRPC's own memory first: there, late is never.)
    EXPECT_EQ(service_.remote()->outstanding(), 3u);
    EXPECT_GE(service_.remote()->landing_bytes_in_use(), 3 * 5000 * model_.head.row_bytes());
  }
  service_.server()->Resume();
  const Time resumed = Now();
  while (service_.remote()->outstanding() > 0 && Now() - resumed < seconds(10)) {
    std::this_thread::yield();
  }
  EXPECT_EQ(service_.remote()->outstanding(), 0u);
  for (int i = 0; i < 50; ++i) {
    const Status status = FetchOnce(1 + random_() % 6000, random_);
    ASSERT_TRUE(status.ok()) << status;
  }
  EXPECT_EQ(service_.remote()->landing_bytes_in_use(), 0u);
}

TEST_P(RemoteFailure, AHungServerEndsAppendsAtTheDeadline) {
  ServiceSetup setup;
  setup.remote.data_timeout = milliseconds(300);
  ASSERT_NO_FATAL_FAILURE(Start(setup));
  service_.server()->Pause();
  const Time start = Now();
  Status status = service_->Append({id_, 0, kTokens, 64, rows_.Grow(0, 64)});
  if (status.ok()) status = service_->Flush(id_);
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded) << status;
  EXPECT_LT(Seconds(Now() - start), 2.0);
  service_.server()->Resume();
  EXPECT_TRUE(FetchOnce(100, random_).ok());
}

// It waits for requests under way, of which there are none.
TEST_P(RemoteFailure, AServerStopsAtOnceWithAnIdleClientConnected) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_TRUE(FetchOnce(100, random_).ok());
  const Time start = Now();
  EXPECT_EQ(service_.server()->Stop(), 0);
  EXPECT_LT(Seconds(Now() - start), 3.0);
  EXPECT_EQ(FetchOnce(10, random_).code(), StatusCode::kUnavailable);
}

// Given up, they lie in the server's sockets, and it takes them up when it goes on: not after
// the Truncate that forgave them.
TEST_P(RemoteFailure, AppendsGivenUpDoNotLandBehindATruncate) {
  ServiceSetup setup;
  setup.remote.data_timeout = milliseconds(100);
  setup.remote.flush_timeout = milliseconds(500);
  ASSERT_NO_FATAL_FAILURE(Start(setup));
  for (int round = 0; round < 20; ++round) {
    service_.server()->Pause();
    for (uint32_t layer = 0; layer < model_.layers; ++layer) {
      service_->Append({id_, layer, kTokens, 64, rows_.Grow(layer, 64)}).IgnoreError();
    }
    EXPECT_FALSE(service_->Flush(id_).ok());
    Status truncated;
    std::jthread truncating = StartThread("truncating", [&](std::stop_token) {
      do {
        truncated = service_->Truncate(id_, kTokens);
      } while (truncated.code() == StatusCode::kDeadlineExceeded);
    });
    std::this_thread::sleep_for(milliseconds(random_() % 20));
    service_.server()->Resume();
    truncating.join();
    ASSERT_TRUE(truncated.ok()) << truncated;
    rows_.Truncate(kTokens);
    const Status appended = AppendUpTo(*service_, model_, id_, rows_, kTokens + 64, random_);
    ASSERT_TRUE(appended.ok()) << "round " << round << ": " << appended;
    for (uint32_t layer = 0; layer < model_.layers; ++layer) {
      const auto read = service_->StartRead({id_, layer, kTokens, 64});
      const auto got = read->Wait();
      ASSERT_TRUE(got.ok()) << got.status();
      const auto want = rows_.Range(layer, kTokens, 64);
      ASSERT_TRUE(std::equal(got->begin(), got->end(), want.begin(), want.end()));
    }
    ASSERT_TRUE(service_->Truncate(id_, kTokens).ok());
    rows_.Truncate(kTokens);
  }
}

TEST_P(RemoteFailure, AClientIsDestroyedWithRequestsInFlight) {
  ServiceSetup setup;
  setup.remote.data_timeout = seconds(30);
  ASSERT_NO_FATAL_FAILURE(Start(setup));
  for (int round = 0; round < 10; ++round) {
    std::vector<Fetch> fetches;
    for (int i = 0; i < 8; ++i) fetches.push_back(StartFetch(20'000, random_));
    auto read = service_->StartRead({id_, 2, 0, kTokens});
    std::atomic<bool> waiting{false};
    Status ended;
    std::jthread waiter = StartThread("waiter", [&](std::stop_token) {
      waiting = true;
      for (Fetch& fetch : fetches) {
        const Status status = Collect(fetch);
        if (!status.ok()) ended = status;
      }
    });
    while (!waiting) std::this_thread::yield();
    service_.Disconnect();
    waiter.join();
    // What came before is right (Collect looks), what did not is an error.
    EXPECT_TRUE(ended.ok() || ended.code() == StatusCode::kCancelled) << ended;
    read.reset();
    auto again = service_.ConnectRemote();
    ASSERT_TRUE(again.ok()) << again.status();
    service_.Use(*std::move(again));
    // Its sequences went with the session.
    rows_ = ExpectedRows(model_, random_());
    Fill();
  }
}

TEST_P(RemoteFailure, AClientIsDestroyedWhileTheServerHangs) {
  ServiceSetup setup;
  setup.remote.data_timeout = seconds(30);
  ASSERT_NO_FATAL_FAILURE(Start(setup));
  service_.server()->Pause();
  Fetch fetch = StartFetch(20'000, random_);
  const Time start = Now();
  service_.Disconnect();
  EXPECT_LT(Seconds(Now() - start), 3.0);
  EXPECT_EQ(fetch.pending->Wait().status().code(), StatusCode::kCancelled);
  fetch.pending.reset();
  EXPECT_LT(Seconds(Now() - start), 6.0);
}

TEST_P(RemoteFailure, ARestartedServerAsksToConnectAgain) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(service_.RestartServer());
  const Status fetched = FetchOnce(10, random_);
  // Over gRPC the call itself finds the new server.
  const StatusCode lost =
      GetParam() == Way::kGrpc ? StatusCode::kUnauthenticated : StatusCode::kUnavailable;
  EXPECT_EQ(fetched.code(), lost) << fetched;
  EXPECT_THAT(Message(fetched), HasSubstr("connect again"));
  // The control plane finds the new server, which does not know the session.
  const Time start = Now();
  Status stat;
  do {
    stat = service_->Stat(id_).status();
  } while (stat.code() == StatusCode::kUnavailable && Now() - start < seconds(10));
  EXPECT_EQ(stat.code(), StatusCode::kUnauthenticated) << stat;
  EXPECT_THAT(Message(stat), HasSubstr("connect again"));
  auto again = service_.ConnectRemote();
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ((*again)->Stat(id_).status().code(), StatusCode::kNotFound);
}

TEST_P(RemoteFailure, AnIdleClientKeepsItsSession) {
  ServiceSetup setup;
  setup.server_flags = {"--lease", "300ms"};
  ASSERT_NO_FATAL_FAILURE(Start(setup));
  // Another client of the tenant looks on for several leases.
  auto other = service_.ConnectRemote();
  ASSERT_TRUE(other.ok()) << other.status();
  const Time start = Now();
  while (Now() - start < seconds(1)) {
    const Status there = (*other)->Stat(id_).status();
    ASSERT_TRUE(there.ok()) << there;
  }
  const Status status = FetchOnce(100, random_);
  EXPECT_TRUE(status.ok()) << status;
}

TEST_P(RemoteFailure, TwoThreadsFetchAtOnceWhileAThirdAppends) {
  ASSERT_NO_FATAL_FAILURE(Start());
  std::vector<Status> ended(3);
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < 2; ++i) {
      threads.push_back(StartThread("fetching", [&, i](std::stop_token) {
        std::mt19937_64 random(seed_ + i);
        for (int n = 0; n < 300 && ended[i].ok(); ++n) {
          ended[i] = FetchOnce(1 + random() % 3000, random);
        }
      }));
    }
    threads.push_back(StartThread("appending", [&](std::stop_token) {
      const auto opened = service_->Open({.model = model_.fingerprint.text(), .token_ids = {}});
      ended[2] = opened.status();
      std::mt19937_64 random(seed_ + 2);
      ExpectedRows mine(model_, random());
      if (ended[2].ok()) {
        ended[2] = AppendUpTo(*service_, model_, opened->id, mine, 2000, random);
      }
      if (!ended[2].ok()) return;
      const auto pending = service_->StartRead({opened->id, 0, 0, 2000});
      const auto got = pending->Wait();
      ended[2] = got.status();
      const auto want = mine.Range(0, 0, 2000);
      EXPECT_TRUE(got.ok() && std::equal(got->begin(), got->end(), want.begin(), want.end()));
    }));
  }
  for (const Status& status : ended) EXPECT_TRUE(status.ok()) << status;
}

TEST_P(RemoteFailure, MoreRequestsThanTheServerTakesWaitTheirTurn) {
  ServiceSetup setup;
  setup.remote.verify_checksums = true;
  ASSERT_NO_FATAL_FAILURE(Start(setup));
  std::vector<Fetch> fetches;
  for (int i = 0; i < 200; ++i) fetches.push_back(StartFetch(1 + random_() % 500, random_));
  for (Fetch& fetch : fetches) {
    const Status status = Collect(fetch);
    ASSERT_TRUE(status.ok()) << status;
  }
  // Given up, whether sent or not, they leave nothing behind.
  fetches.clear();
  for (int i = 0; i < 100; ++i) fetches.push_back(StartFetch(500, random_));
  fetches.clear();
  ASSERT_TRUE(FetchOnce(100, random_).ok());
  while (service_.remote()->outstanding() > 0) std::this_thread::yield();
  EXPECT_EQ(service_.remote()->landing_bytes_in_use(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Ways, RemoteFailure, ::testing::Values(Way::kShm, Way::kTcp, Way::kGrpc),
                         [](const auto& param) { return WayName(param.param); });

}  // namespace
}  // namespace passband::test
