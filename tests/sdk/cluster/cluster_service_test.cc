// Goal: several servers are one service: prefixes meet, a batch is fetched from all at once, and
// a server that dies, hangs, drains or comes back costs its own sequences and nobody a wrong byte.

#include "sdk/cluster/cluster_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <set>

#include "base/random.h"
#include "base/thread.h"
#include "passband/client.h"
#include "sdk/cluster/placement.h"
#include "sdk/cluster/session.h"
#include "sdk/operator_client.h"
#include "tests/sdk/cluster/cluster_world.h"
#include "tests/support/temp_folder.h"

namespace passband::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr auto kPatience = seconds(60);

Time Now() { return std::chrono::steady_clock::now(); }

class ClusterServiceTest : public ::testing::Test {
 protected:
  // Until `ready`; a failure after a minute.
  template <typename Ready>
  static void Await(Ready ready, const char* what) {
    const Time end = Now() + kPatience;
    while (!ready()) {
      ASSERT_LT(Now(), end) << what;
      std::this_thread::yield();
    }
  }
  static ServerStatus StatusOf(const ClusterService& service, const std::string& address) {
    for (const ServerStatus& server : service.Servers()) {
      if (server.address == address) return server;
    }
    ADD_FAILURE() << address;
    return {};
  }
  void AwaitAvailable(const ClusterService& service, size_t server, bool available = true) {
    Await([&] { return StatusOf(service, world_.address(server)).available == available; },
          "available");
  }

  // Stores sequences until every server has some: server -> (key, sequence).
  using Placed = std::map<size_t, std::vector<std::pair<uint64_t, SequenceId>>>;
  Placed StoreOnEach(ClusterService& service, size_t at_least = 1) {
    Placed out;
    size_t enough = 0;
    for (uint64_t key = 1; enough < world_.size() && key < 500; ++key) {
      const auto stored = Store(service, key);
      EXPECT_TRUE(stored.ok()) << stored.status();
      if (!stored.ok()) break;
      const auto place = service.Find(stored->id);
      EXPECT_TRUE(place.ok()) << place.status();
      auto& list = out[world_.IndexOf(place->address)];
      list.emplace_back(key, stored->id);
      enough += list.size() == at_least ? 1 : 0;
    }
    EXPECT_EQ(enough, world_.size());
    return out;
  }

  Status FetchSome(KvService& service, uint64_t key, SequenceId id) {
    RandomFetch fetch(random_());
    fetch.Add(id, key, 8);
    return fetch.Run(service);
  }

  const uint64_t seed_ = RandomU64();
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  ClusterWorld world_;
};

TEST_F(ClusterServiceTest, PrefixesOfDifferentClientsMeetOnTheSameServer) {
  ASSERT_NO_FATAL_FAILURE(world_.Start(3));
  const auto one = world_.Connect();
  ClusterOptions turned = world_.Options();
  turned.servers = world_.address(2) + "," + world_.address(0) + "," + world_.address(1);
  const auto other = world_.Connect(turned);
  ASSERT_TRUE(one != nullptr && other != nullptr);
  std::set<std::string> used;
  for (uint64_t key = 1; key <= 12; ++key) {
    const auto first = Store(*one, key);
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_EQ(first->matched_tokens, 0U);
    EXPECT_EQ(*other->Lookup(chaos::ChaosModel().fingerprint.text(), TokensOf(key, kPromptTokens)),
              kPromptTokens);
    const auto second = Store(*other, key, kPromptTokens + 10);
    ASSERT_TRUE(second.ok()) << second.status();
    EXPECT_EQ(second->matched_tokens, kPromptTokens);
    EXPECT_EQ(one->Find(first->id)->address, other->Find(second->id)->address);
    EXPECT_TRUE(FetchSome(*other, key, second->id).ok());
    used.insert(one->Find(first->id)->address);
  }
  EXPECT_GT(used.size(), 1U);
  uint64_t first = 0;
  for (const ServerStatus& server : one->Servers()) {
    EXPECT_EQ(server.opened_later, 0U);
    EXPECT_TRUE(server.available) << server.why;
    EXPECT_EQ(server.connections, 1U);
    first += server.opened_first;
  }
  EXPECT_EQ(first, 12U);
}

TEST_F(ClusterServiceTest, ABatchOnSeveralServersIsOneRequestToEach) {
  ASSERT_NO_FATAL_FAILURE(world_.Start(3));
  const auto service = world_.Connect();
  ASSERT_TRUE(service != nullptr);
  const Placed placed = StoreOnEach(*service, 2);
  const TrafficStats before = service->traffic();
  RandomFetch fetch(random_());
  for (const auto& [server, sequences] : placed) {
    for (const auto& [key, id] : sequences) fetch.Add(id, key, 5);
  }
  fetch.Shuffle();
  auto pending = fetch.Start(*service);
  // Every server has its request before anybody waits.
  EXPECT_EQ(service->traffic().fetch_requests - before.fetch_requests, 3U);
  ASSERT_TRUE(fetch.Collect(*pending).ok());
  EXPECT_TRUE(pending->Wait().ok());
  EXPECT_EQ(service->traffic().fetched_rows - before.fetched_rows, fetch.rows());
  // Dropped before it came, it harms nothing.
  for (int i = 0; i < 20; ++i) fetch.Start(*service).reset();
  auto polled = fetch.Start(*service);
  Await([&] { return polled->Ready(); }, "ready");
  EXPECT_TRUE(fetch.Collect(*polled).ok());
}

TEST_F(ClusterServiceTest, CallsAboutASequenceGoToItsServer) {
  ASSERT_NO_FATAL_FAILURE(world_.Start(3));
  const auto service = world_.Connect();
  ASSERT_TRUE(service != nullptr);
  const Placed placed = StoreOnEach(*service);
  for (const auto& [server, sequences] : placed) {
    const auto [key, id] = sequences[0];
    const auto stat = service->Stat(id);
    ASSERT_TRUE(stat.ok()) << stat.status();
    EXPECT_EQ(stat->id, id);
    EXPECT_EQ(stat->committed_tokens, kPromptTokens);
    const auto fork = service->Fork(id, 100);
    ASSERT_TRUE(fork.ok()) << fork.status();
    EXPECT_EQ(world_.IndexOf(service->Find(*fork)->address), server);
    EXPECT_TRUE(AppendRows(*service, *fork, key, 100, 130).ok());
    EXPECT_TRUE(FetchSome(*service, key, id).ok());
    RandomFetch forked(random_());
    forked.Add(*fork, key, 4, 130);
    EXPECT_TRUE(forked.Run(*service).ok());
    EXPECT_TRUE(service->Truncate(*fork, 50).ok());
    EXPECT_EQ(service->Stat(*fork)->committed_tokens, 50U);
    EXPECT_TRUE(service->Seal(*fork).ok());
    EXPECT_TRUE(service->Close(*fork).ok());
    EXPECT_EQ(service->Stat(*fork).status().code(), StatusCode::kNotFound);
  }
  // Everything is listed once, whatever the size of a page.
  size_t stored = 0;
  for (const auto& [server, sequences] : placed) stored += sequences.size();
  for (const uint32_t page : {0U, 1U, 2U, 100U}) {
    std::set<SequenceId> listed;
    SequenceId after;
    for (;;) {
      const auto stats = service->List(after, page);
      ASSERT_TRUE(stats.ok()) << stats.status();
      if (stats->empty()) break;
      for (const SequenceStat& stat : *stats) {
        EXPECT_TRUE(service->Find(stat.id).ok());
        EXPECT_TRUE(listed.insert(stat.id).second);
      }
      after = stats->back().id;
    }
    EXPECT_EQ(listed.size(), stored) << page;
  }
}

TEST_F(ClusterServiceTest, NumbersOfNobodyAreNotFound) {
  ASSERT_NO_FATAL_FAILURE(world_.Start(2));
  const auto service = world_.Connect();
  ASSERT_TRUE(service != nullptr);
  for (const SequenceId id : {SequenceId(0), SequenceId(7), SequenceId((uint64_t{1} << 52) | 7),
                              SequenceId((uint64_t{77} << 52) | 7), SequenceId(UINT64_MAX)}) {
    EXPECT_EQ(service->Stat(id).status().code(), StatusCode::kNotFound) << id.value();
    EXPECT_EQ(service->Close(id).code(), StatusCode::kNotFound) << id.value();
    EXPECT_EQ(FetchSome(*service, 1, id).code(), StatusCode::kNotFound) << id.value();
  }
}

TEST_F(ClusterServiceTest, AKilledServersSequencesAreLostAndTheOthersAreNot) {
  ASSERT_NO_FATAL_FAILURE(world_.Start(3));
  const auto service = world_.Connect();
  ASSERT_TRUE(service != nullptr);
  const Placed placed = StoreOnEach(*service);
  const size_t victim = random_() % 3;
  const auto [key, id] = placed.at(victim)[0];
  const uint64_t epoch = StatusOf(*service, world_.address(victim)).epoch;
  world_.server(victim).Kill();
  // Whoever asks until the death is noticed hears of an error, never of other bytes.
  Status lost;
  Await([&] { return (lost = FetchSome(*service, key, id)).code() == StatusCode::kNotFound; },
        "lost");
  EXPECT_THAT(Message(lost), HasSubstr(world_.address(victim)));
  EXPECT_THAT(Message(lost), HasSubstr("open it again"));
  EXPECT_EQ(service
                ->Append({id, 0, kPromptTokens, 1,
                          std::vector<std::byte>(chaos::kKvHeads * chaos::kRowBytes)})
                .code(),
            StatusCode::kNotFound);
  EXPECT_EQ(service->Flush(id).code(), StatusCode::kNotFound);
  EXPECT_EQ(service->Fork(id, 1).status().code(), StatusCode::kNotFound);
  for (const auto& [server, sequences] : placed) {
    if (server == victim) continue;
    for (const auto& [other_key, other] : sequences) {
      const Status fetched = FetchSome(*service, other_key, other);
      EXPECT_TRUE(fetched.ok()) << fetched;
    }
  }
  // A batch with one of them fails with its reason; without it, it does not.
  RandomFetch batch(random_());
  for (const auto& [server, sequences] : placed)
    batch.Add(sequences[0].second, sequences[0].first, 2);
  EXPECT_EQ(batch.Run(*service).code(), StatusCode::kNotFound);

  // It is computed again, at once, elsewhere.
  const auto again = Store(*service, key);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->matched_tokens, 0U);
  EXPECT_NE(world_.IndexOf(service->Find(again->id)->address), victim);
  EXPECT_TRUE(FetchSome(*service, key, again->id).ok());

  ASSERT_NO_FATAL_FAILURE(world_.StartAgain(victim));
  AwaitAvailable(*service, victim);
  const ServerStatus back = StatusOf(*service, world_.address(victim));
  EXPECT_NE(back.epoch, epoch);
  EXPECT_EQ(back.connections, 2U);
  EXPECT_EQ(back.lost_connections, 1U);
  EXPECT_GE(back.openings, 1U);
  // New ones go home; what was lost stays lost, and can be closed.
  const auto home = Store(*service, key);
  ASSERT_TRUE(home.ok()) << home.status();
  EXPECT_EQ(world_.IndexOf(service->Find(home->id)->address), victim);
  EXPECT_NE(home->id, id);
  EXPECT_EQ(FetchSome(*service, key, id).code(), StatusCode::kNotFound);
  EXPECT_TRUE(service->Close(id).ok());
  EXPECT_TRUE(FetchSome(*service, key, home->id).ok());
}

TEST_F(ClusterServiceTest, AServerThatHangsIsLeftAloneAndItsSequencesWaitForIt) {
  ASSERT_NO_FATAL_FAILURE(world_.Start(3));
  ClusterOptions options = world_.Options();
  options.remote.data_timeout = milliseconds(300);
  options.remote.control_timeout = milliseconds(300);
  const auto service = world_.Connect(options);
  ASSERT_TRUE(service != nullptr);
  const Placed placed = StoreOnEach(*service, 2);
  const size_t victim = random_() % 3;
  const auto [key, id] = placed.at(victim)[0];
  ASSERT_TRUE(world_.server(victim).Pause());
  Status refused;
  Await(
      [&] {
        refused = FetchSome(*service, key, id);
        return refused.code() == StatusCode::kUnavailable;
      },
      "refused");
  EXPECT_THAT(Message(refused), HasSubstr(world_.address(victim)));
  EXPECT_THAT(Message(refused), HasSubstr("tried again in"));
  EXPECT_TRUE(RetryAfter(refused).has_value());
  // Refused without asking: a thousand times faster than its deadline.
  const Time start = Now();
  int refusals = 0;
  for (int i = 0; i < 1000; ++i) {
    refusals += FetchSome(*service, key, id).code() == StatusCode::kUnavailable ? 1 : 0;
  }
  EXPECT_EQ(refusals, 1000);
  EXPECT_LT(Now() - start, seconds(100));
  // What is closed meanwhile is closed when it answers.
  const SequenceId second = placed.at(victim)[1].second;
  EXPECT_TRUE(service->Close(second).ok());
  const auto elsewhere = Store(*service, key);
  ASSERT_TRUE(elsewhere.ok()) << elsewhere.status();
  EXPECT_NE(world_.IndexOf(service->Find(elsewhere->id)->address), victim);
  EXPECT_GE(StatusOf(*service, service->Find(elsewhere->id)->address).opened_later, 1U);

  world_.server(victim).Resume();
  AwaitAvailable(*service, victim);
  const Status fetched = FetchSome(*service, key, id);
  EXPECT_TRUE(fetched.ok()) << fetched;
  EXPECT_EQ(StatusOf(*service, world_.address(victim)).connections, 1U);
  EXPECT_EQ(service->Stat(second).status().code(), StatusCode::kNotFound);
}

TEST_F(ClusterServiceTest, ADrainingServerKeepsWhatItHasAndGetsNothingNew) {
  ASSERT_NO_FATAL_FAILURE(world_.Start(3));
  const auto service = world_.Connect();
  ASSERT_TRUE(service != nullptr);
  const Placed placed = StoreOnEach(*service);
  const size_t victim = random_() % 3;
  const auto [key, id] = placed.at(victim)[0];
  OperatorClient client({.address = world_.address(victim)});
  ASSERT_TRUE(client.Drain().ok());
  const auto elsewhere = Store(*service, key);
  ASSERT_TRUE(elsewhere.ok()) << elsewhere.status();
  EXPECT_NE(world_.IndexOf(service->Find(elsewhere->id)->address), victim);
  EXPECT_TRUE(FetchSome(*service, key, id).ok());
  // It answers: that is no reason to leave it alone.
  EXPECT_EQ(StatusOf(*service, world_.address(victim)).openings, 0U);
}

TEST_F(ClusterServiceTest, WithNobodyThereOpenSaysSoOrWaits) {
  ASSERT_NO_FATAL_FAILURE(world_.Start(2));
  const auto service = world_.Connect();
  ClusterOptions patient_options = world_.Options();
  patient_options.open_wait = kPatience;
  const auto patient = world_.Connect(patient_options);
  ASSERT_TRUE(service != nullptr && patient != nullptr);
  world_.server(0).Kill();
  world_.server(1).Kill();
  Status none;
  Await([&] { return (none = Store(*service, 1).status()).code() == StatusCode::kUnavailable; },
        "unavailable");
  for (size_t i = 0; i < 2; ++i) EXPECT_THAT(Message(none), HasSubstr(world_.address(i)));
  std::atomic<bool> opened{false};
  const std::jthread waiting = StartThread("waiting", [&](const std::stop_token&) {
    const auto stored = Store(*patient, 1);
    EXPECT_TRUE(stored.ok()) << stored.status();
    opened = true;
  });
  AwaitAvailable(*patient, 0, false);
  AwaitAvailable(*patient, 1, false);
  EXPECT_FALSE(opened);
  ASSERT_NO_FATAL_FAILURE(world_.StartAgain(1));
  Await([&] { return opened.load(); }, "opened");
}

TEST_F(ClusterServiceTest, ConnectNeedsOneServerAndNamesThoseItLacks) {
  ASSERT_NO_FATAL_FAILURE(world_.Start(2));
  ClusterOptions options = world_.Options();
  options.servers = world_.address(0) + ",127.0.0.1:1";
  EXPECT_NE(world_.Connect(options), nullptr);
  options.servers = "127.0.0.1:1,127.0.0.1:2";
  const Status none = ClusterService::Connect(options).status();
  EXPECT_EQ(none.code(), StatusCode::kUnavailable);
  EXPECT_THAT(Message(none), HasSubstr("127.0.0.1:1"));
  EXPECT_THAT(Message(none), HasSubstr("127.0.0.1:2"));
  options.servers = "nonsense";
  EXPECT_EQ(ClusterService::Connect(options).status().code(), StatusCode::kInvalidArgument);
  // Of a single one it is that one's own error.
  options.servers = world_.address(0);
  options.remote.data_plane = "grpc";
  const Status plane = ClusterService::Connect(options).status();
  EXPECT_EQ(plane.code(), StatusCode::kFailedPrecondition) << plane;
}

TEST_F(ClusterServiceTest, OfOneServerIdsAreItsOwn) {
  ASSERT_NO_FATAL_FAILURE(world_.Start(1));
  const auto service = world_.Connect();
  ASSERT_TRUE(service != nullptr);
  const auto stored = Store(*service, 1);
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ(service->Find(stored->id)->id, stored->id);
}

TEST_F(ClusterServiceTest, OneServerUnderTwoAddressesIsOne) {
  ASSERT_NO_FATAL_FAILURE(world_.Start(2));
  ClusterOptions options = world_.Options();
  const std::string port = std::to_string(world_.server(0).control_port());
  options.servers = world_.List() + "localhost:" + port;
  const auto service = world_.Connect(options);
  const auto plain = world_.Connect();
  ASSERT_TRUE(service != nullptr && plain != nullptr);
  Await([&] { return StatusOf(*service, "localhost:" + port).available; }, "both connected");
  for (uint64_t key = 1; key <= 20; ++key) {
    const auto one = Store(*service, key);
    const auto other = Store(*plain, key);
    ASSERT_TRUE(one.ok() && other.ok()) << one.status() << other.status();
    EXPECT_EQ(other->matched_tokens, kPromptTokens) << key;
  }
}

TEST_F(ClusterServiceTest, SealedSequencesAreFoundAgainAfterARestart) {
  const TempFolder folder;
  ASSERT_NO_FATAL_FAILURE(world_.Start(1, {"--spill-dir", folder.path()}));
  const auto service = world_.Connect();
  ASSERT_TRUE(service != nullptr);
  const auto stored = Store(*service, 5);
  ASSERT_TRUE(stored.ok()) << stored.status();
  ASSERT_TRUE(service->Seal(stored->id).ok());
  world_.server(0).Kill();
  ASSERT_NO_FATAL_FAILURE(world_.StartAgain(0));
  Await([&] { return StatusOf(*service, world_.address(0)).connections == 2; }, "connected again");
  AwaitAvailable(*service, 0);
  EXPECT_EQ(FetchSome(*service, 5, stored->id).code(), StatusCode::kNotFound);
  const auto again = Store(*service, 5);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->matched_tokens, kPromptTokens);
  EXPECT_TRUE(FetchSome(*service, 5, again->id).ok());
}

TEST_F(ClusterServiceTest, ThePublicClientTakesAList) {
  ASSERT_NO_FATAL_FAILURE(world_.Start(2));
  auto client = client::Client::Connect(
      {.server = world_.List(), .tenant = "", .transports = "posix,tcp,self"});
  ASSERT_TRUE(client.ok()) << client.status().message();
  EXPECT_TRUE(client
                  ->RegisterModel({.fingerprint = "a:b",
                                   .name = "m",
                                   .layers = 1,
                                   .query_heads = 1,
                                   .kv_heads = 1,
                                   .head_dim = 64,
                                   .rotary_dim = 64})
                  .ok());
  const auto opened = client->Open({.model = "a:b", .token_ids = TokensOf(1, 100)});
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  ASSERT_EQ(client->servers().size(), 2U);
  for (const client::ServerState& server : client->servers()) {
    EXPECT_TRUE(server.available) << server.why;
    EXPECT_NE(server.epoch, 0U);
  }
}

// Servers of one port, as the pods behind a headless service.
class NamedServers : public ClusterServiceTest {
 protected:
  static constexpr std::array<const char*, 3> kHosts = {"127.0.0.1", "127.0.0.2", "127.0.0.3"};

  void SetUp() override {
    ServerProcess::Options options{.binary = PASSBAND_SERVER_BINARY,
                                   .flags = {"--ram", "64MiB", "--transports", "posix,tcp,self"}};
    for (const char* host : kHosts) {
      options.host = host;
      auto server = ServerProcess::Start(options);
      ASSERT_TRUE(server.ok()) << server.status();
      options.control_port = (*server)->control_port();
      pods_.push_back(*std::move(server));
    }
  }
  void Publish(std::vector<std::string> addresses) {
    MutexLock lock(mutex_);
    published_ = std::move(addresses);
  }
  ClusterOptions Options() {
    ClusterOptions options = world_.Options();
    options.servers = "dns:///passband.test:" + std::to_string(pods_[0]->control_port());
    options.refresh = milliseconds(50);
    options.resolver = [this](const std::string& host) -> StatusOr<ResolvedHost> {
      EXPECT_EQ(host, "passband.test");
      MutexLock lock(mutex_);
      return ResolvedHost{.ipv4 = published_, .ipv6 = {}};
    };
    return options;
  }
  std::string Address(size_t i) const { return pods_[i]->control_address(); }

  std::vector<std::unique_ptr<ServerProcess>> pods_;
  Mutex mutex_;
  std::vector<std::string> published_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(NamedServers, AServerThatJoinsTakesItsShareAndOneThatLeavesKeepsWhatItHas) {
  Publish({kHosts[0], kHosts[1]});
  const auto service = world_.Connect(Options());
  ASSERT_TRUE(service != nullptr);
  std::map<uint64_t, std::string> before;
  std::map<uint64_t, SequenceId> ids;
  for (uint64_t key = 1; key <= 24; ++key) {
    const auto stored = Store(*service, key, 64);
    ASSERT_TRUE(stored.ok()) << stored.status();
    ids[key] = stored->id;
    before[key] = service->Find(stored->id)->address;
    EXPECT_NE(before[key], Address(2));
  }
  Publish({kHosts[0], kHosts[1], kHosts[2]});
  Await([&] { return service->Servers().size() == 3 && StatusOf(*service, Address(2)).available; },
        "joined");
  size_t moved = 0;
  for (const auto& [key, address] : before) {
    const auto stored = Store(*service, key, 64);
    ASSERT_TRUE(stored.ok()) << stored.status();
    const std::string now = service->Find(stored->id)->address;
    // Either it stays, with all that is stored there, or it is in the new one's share.
    if (now == address) {
      EXPECT_EQ(stored->matched_tokens, 64U);
    } else {
      EXPECT_EQ(now, Address(2));
      ++moved;
    }
  }
  EXPECT_GT(moved, 0U);
  EXPECT_LT(moved, 20U);  // 8 of 24 are expected
  Publish({kHosts[1], kHosts[2]});
  Await([&] { return !StatusOf(*service, Address(0)).available; }, "left");
  for (const auto& [key, id] : ids) {
    RandomFetch fetch(random_());
    fetch.Add(id, key, 4, 64);
    const Status fetched = fetch.Run(*service);
    EXPECT_TRUE(fetched.ok()) << fetched;
    const auto stored = Store(*service, key, 64);
    ASSERT_TRUE(stored.ok()) << stored.status();
    EXPECT_NE(service->Find(stored->id)->address, Address(0));
  }
}

// A pod comes back with its name and another address.
TEST_F(ClusterServiceTest, OneThatComesBackUnderAnotherAddressHasItsOldShare) {
  ASSERT_NO_FATAL_FAILURE(world_.Start(2));
  const std::string port = std::to_string(world_.server(0).control_port());
  const std::string before = world_.address(0);
  const std::string after = "127.0.0.2:" + port;
  std::atomic<bool> moved{false};
  ClusterOptions options = world_.Options();
  options.servers = "dns:///pod.test:" + port + "," + world_.address(1);
  options.refresh = milliseconds(50);
  options.resolver = [&](const std::string&) -> StatusOr<ResolvedHost> {
    return ResolvedHost{.ipv4 = {moved ? "127.0.0.2" : "127.0.0.1"}, .ipv6 = {}};
  };
  const auto service = world_.Connect(options);
  ASSERT_TRUE(service != nullptr);
  const auto owner = [&](uint64_t key) {
    const auto stored = Store(*service, key, 64);
    EXPECT_TRUE(stored.ok()) << stored.status();
    return stored.ok() ? service->Find(stored->id)->address : "";
  };
  std::map<uint64_t, std::string> owners;
  for (uint64_t key = 1; key <= 20; ++key) owners[key] = owner(key);
  const std::string name = StatusOf(*service, before).name;
  world_.server(0).Kill();
  ServerProcess::Options again{.binary = PASSBAND_SERVER_BINARY,
                               .flags = {"--ram", "64MiB", "--transports", "posix,tcp,self"},
                               .host = "127.0.0.2",
                               .control_port = world_.server(0).control_port()};
  const auto pod = ServerProcess::Start(again);
  ASSERT_TRUE(pod.ok()) << pod.status();
  moved = true;
  const auto there = [&] {
    const auto servers = service->Servers();
    return std::any_of(servers.begin(), servers.end(), [&](const ServerStatus& server) {
      return server.address == after && server.available;
    });
  };
  Await(there, "the pod under its new address");
  EXPECT_EQ(StatusOf(*service, after).name, name);
  for (const auto& [key, address] : owners) {
    EXPECT_EQ(owner(key), address == before ? after : address) << key;
  }
}

// Clients under load while servers are killed and come back, again and again.
TEST_F(ClusterServiceTest, UnderLoadAKilledServerCostsItsOwnSequencesAndNoByte) {
  ASSERT_NO_FATAL_FAILURE(world_.Start(3));
  constexpr int kClients = 4;
  constexpr int kRestarts = 4;
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> rows{0}, lost{0}, rounds{0};
  // Which server is being restarted, or has been lately: others' sequences must not fail.
  std::array<std::atomic<uint64_t>, 3> restarts{};
  std::vector<std::jthread> clients;
  for (int client = 0; client < kClients; ++client) {
    clients.push_back(StartThread("client", [&, client](const std::stop_token&) {
      std::mt19937_64 random(seed_ + static_cast<uint64_t>(client));
      // A death is noticed, not timed out, and a slow machine is no death.
      ClusterOptions options = world_.Options();
      options.remote.data_timeout = options.remote.control_timeout = seconds(20);
      const auto service = world_.Connect(options);
      ASSERT_TRUE(service != nullptr);
      while (!stop) {
        const uint64_t key = 1 + random() % 20;
        const auto marks = [&] {
          return std::array{restarts[0].load(), restarts[1].load(), restarts[2].load()};
        };
        const auto before = marks();
        const auto stored = Store(*service, key);
        if (!stored.ok()) {
          EXPECT_THAT(stored.status().code(), AnyOf(StatusCode::kUnavailable, StatusCode::kNotFound,
                                                    StatusCode::kDeadlineExceeded))
              << stored.status();
          ++lost;
          continue;
        }
        const auto place = service->Find(stored->id);
        RandomFetch fetch(random());
        fetch.Add(stored->id, key, 6);
        Status status;
        for (int i = 0; i < 5 && status.ok(); ++i) status = fetch.Run(*service);
        if (!status.ok()) {
          EXPECT_THAT(status.code(), AnyOf(StatusCode::kUnavailable, StatusCode::kNotFound,
                                           StatusCode::kDeadlineExceeded))
              << status;
          ++lost;
          if (place.ok()) {
            const size_t server = world_.IndexOf(place->address);
            EXPECT_NE(marks()[server], before[server]) << status << " but nobody killed it";
          }
        }
        rows += fetch.rows();
        ++rounds;
        EXPECT_TRUE(service->Close(stored->id).ok());
      }
    }));
  }
  const auto await_rounds = [&](uint64_t more) {
    const uint64_t until = rounds + more;
    Await([&] { return rounds >= until; }, "progress");
  };
  for (int i = 0; i < kRestarts; ++i) {
    await_rounds(40);
    const size_t victim = static_cast<size_t>(i) % 3;
    ++restarts[victim];
    world_.server(victim).Kill();
    await_rounds(40);  // On the others.
    ++restarts[victim];
    ASSERT_NO_FATAL_FAILURE(world_.StartAgain(victim));
  }
  await_rounds(40);
  stop = true;
  clients.clear();
  EXPECT_GT(rows, 10'000U);
  EXPECT_GT(lost, 0U);
}

}  // namespace
}  // namespace passband::test
