// Goal: what people write becomes the right addresses; a name's addresses are looked up again,
// and one that cannot be looked up changes nothing.

#include "sdk/cluster/server_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>

#include "base/mutex.h"

namespace passband::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kPatience = seconds(60);

std::vector<std::string> Texts(const std::string& list) {
  const auto names = ParseServerNames(list);
  EXPECT_TRUE(names.ok()) << names.status();
  std::vector<std::string> out;
  for (const ServerName& name : *names) out.push_back(name.text());
  return out;
}

TEST(ServerNames, AreReadAsPeopleWriteThem) {
  EXPECT_THAT(Texts("127.0.0.1:50061"), ElementsAre("127.0.0.1:50061"));
  EXPECT_THAT(Texts("a:1, b:2,,a:1,"), ElementsAre("a:1", "b:2"));
  EXPECT_THAT(Texts("dns:///passband.passband.svc:50061"),
              ElementsAre("dns:///passband.passband.svc:50061"));
  EXPECT_THAT(Texts("[::1]:50061,dns:///p:007"), ElementsAre("[::1]:50061", "dns:///p:7"));
}

TEST(ServerNames, OfNoKindAreRefusedWithAnExample) {
  for (const char* bad :
       {"", ",", "host", "host:", ":50061", "host:0", "host:65536", "host:-1", "host:1x",
        "::1:50061", "[::1:50061", "[host]:1", "http://host:1", "dns://8.8.8.8/host:1", "dns:///",
        "dns:///:1", "two words:1", "a/b:1", "ok:1,host"}) {
    const auto names = ParseServerNames(bad);
    EXPECT_EQ(names.status().code(), StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(Message(names.status()), HasSubstr("127.0.0.1:50061")) << bad;
  }
}

// Answers what it is told to, and is asked again and again.
class FakeDns {
 public:
  void Set(const std::string& host, StatusOr<ResolvedHost> answer) {
    MutexLock lock(mutex_);
    answers_[host] = std::move(answer);
  }
  Resolver resolver() {
    return [this](const std::string& host) -> StatusOr<ResolvedHost> {
      MutexLock lock(mutex_);
      ++asked_;
      changed_.notify_all();
      const auto found = answers_.find(host);
      if (found != answers_.end()) return found->second;
      return Error(StatusCode::kUnavailable, "the name {} cannot be looked up", host);
    };
  }
  void AwaitQuestions(int more) {
    std::unique_lock lock(mutex_);
    const int until = asked_ + more;
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return asked_ >= until; }));
  }

 private:
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::map<std::string, StatusOr<ResolvedHost>> answers_;
  int asked_ = 0;
};

class ServerListTest : public ::testing::Test {
 protected:
  StatusOr<std::unique_ptr<ServerList>> Create(const std::string& list) {
    return ServerList::Create({.names = *ParseServerNames(list),
                               .refresh = milliseconds(20),
                               .resolver = dns_.resolver()});
  }
  static std::vector<std::string> Addresses(const ServerList& list) {
    std::vector<std::string> out;
    for (const ServerAddress& server : list.addresses()) out.push_back(server.address);
    return out;
  }

  FakeDns dns_;
};

TEST_F(ServerListTest, LiteralAddressesAreNotLookedUp) {
  const auto list = Create("10.0.0.2:1,10.0.0.1:1,[fd00::1]:1");
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_THAT(Addresses(**list), ElementsAre("10.0.0.1:1", "10.0.0.2:1", "[fd00::1]:1"));
}

TEST_F(ServerListTest, ANameOfSeveralAddressesIsSeveralServers) {
  dns_.Set("headless", ResolvedHost{.ipv4 = {"10.0.0.3", "10.0.0.1"}, .ipv6 = {"fd00::1"}});
  dns_.Set("one", ResolvedHost{.ipv4 = {"10.0.0.9"}, .ipv6 = {"fd00::9"}});
  dns_.Set("six", ResolvedHost{.ipv4 = {}, .ipv6 = {"fd00::6", "fd00::7"}});
  // One address: the name stays, so that it may change its address.
  auto list = Create("headless:7,one:7");
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_THAT(Addresses(**list), ElementsAre("10.0.0.1:7", "10.0.0.3:7", "one:7"));
  EXPECT_EQ((*list)->addresses()[0].name, "headless");
  // dns:/// is all addresses of the name, one also.
  list = Create("dns:///one:7,dns:///six:7");
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_THAT(Addresses(**list), ElementsAre("10.0.0.9:7", "[fd00::6]:7", "[fd00::7]:7"));
}

TEST_F(ServerListTest, ChangesAreToldAndFailuresChangeNothing) {
  dns_.Set("p", ResolvedHost{.ipv4 = {"10.0.0.1", "10.0.0.2"}, .ipv6 = {}});
  const auto list = Create("dns:///p:1");
  ASSERT_TRUE(list.ok()) << list.status();
  Mutex mutex;
  std::condition_variable_any told;
  std::vector<std::vector<ServerAddress>> changes;
  (*list)->Watch([&](const std::vector<ServerAddress>& now) {
    MutexLock lock(mutex);
    changes.push_back(now);
    told.notify_all();
  });
  dns_.Set("p", Error(StatusCode::kUnavailable, "the name server is away"));
  dns_.AwaitQuestions(3);
  dns_.Set("p", ResolvedHost{});
  dns_.AwaitQuestions(3);
  EXPECT_THAT(Addresses(**list), ElementsAre("10.0.0.1:1", "10.0.0.2:1"));
  dns_.Set("p", ResolvedHost{.ipv4 = {"10.0.0.2", "10.0.0.3"}, .ipv6 = {}});
  std::unique_lock lock(mutex);
  ASSERT_TRUE(told.wait_for(lock, kPatience, [&] { return !changes.empty(); }));
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_THAT(changes[0],
              ElementsAre(ServerAddress{"10.0.0.2:1", "p"}, ServerAddress{"10.0.0.3:1", "p"}));
}

TEST_F(ServerListTest, ARefreshCanBeAskedFor) {
  dns_.Set("p", ResolvedHost{.ipv4 = {"10.0.0.1"}, .ipv6 = {}});
  const auto list = ServerList::Create({.names = *ParseServerNames("dns:///p:1"),
                                        .refresh = std::chrono::hours(1),
                                        .resolver = dns_.resolver()});
  ASSERT_TRUE(list.ok()) << list.status();
  (*list)->RefreshSoon();
  dns_.AwaitQuestions(1);
}

TEST_F(ServerListTest, ANameWithoutAddressIsUnavailable) {
  const auto list = Create("dns:///nobody:1");
  EXPECT_EQ(list.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(Message(list.status()), HasSubstr("nobody"));
  // One that is a server's own may come to be known later.
  const auto server = Create("nobody:1");
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_THAT(Addresses(**server), ElementsAre("nobody:1"));
}

TEST(SystemResolver, KnowsThisMachineAndRefusesNonsense) {
  const auto here = SystemResolver()("localhost");
  ASSERT_TRUE(here.ok()) << here.status();
  EXPECT_FALSE(here->ipv4.empty() && here->ipv6.empty());
  for (const std::string& address : here->ipv4) EXPECT_THAT(address, HasSubstr("127."));
  const auto nobody = SystemResolver()("no-such-host.invalid");
  EXPECT_EQ(nobody.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(Message(nobody.status()), HasSubstr("no-such-host.invalid"));
}

}  // namespace
}  // namespace passband::test
