// Goal: the data port is on the interface that was named and on no other; names that this machine
// does not have stop the start, with those that it has.
#include <arpa/inet.h>
#include <ifaddrs.h>

#include <map>

#include "gmock/gmock.h"
#include "tests/services/server_command.h"
#include "tests/services/server_fixture.h"
#include "transport/net_devices.h"

namespace passband::testing {
namespace {

using ::testing::HasSubstr;

// The IPv4 addresses of this machine, by interface.
std::multimap<std::string, std::string> Addresses() {
  std::multimap<std::string, std::string> out;
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return out;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET) continue;
    std::array<char, INET_ADDRSTRLEN> text{};
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr, text.data(),
              text.size());
    out.emplace(one->ifa_name, text.data());
  }
  freeifaddrs(all);
  return out;
}

class DataPortTest : public ServerTest {
 protected:
  void SetUp() override {}
};

TEST_F(DataPortTest, ItListensOnTheNamedInterfaceAlone) {
  const auto addresses = Addresses();
  const auto devices = transport::NetDevices();
  ASSERT_TRUE(devices.ok()) << devices.status();
  size_t tried = 0;
  for (const std::string& device : *devices) {
    const auto own = addresses.find(device);
    if (own == addresses.end()) continue;
    SCOPED_TRACE(device);
    server::Settings settings = SmallSettings();
    settings.net_devices = device;
    settings.transports = "tcp,self";
    settings.data_threads = 2;
    ASSERT_NO_FATAL_FAILURE(Start(settings));
    size_t data = 0;
    for (const auto& [address, port] : ListeningSockets()) {
      const server::Endpoints& other = server_->endpoints();
      if (port == other.control_port || port == other.http_port) continue;
      EXPECT_EQ(address, own->second) << port;
      ++data;
    }
    EXPECT_EQ(data, settings.data_threads);
    ++tried;
  }
  EXPECT_GE(tried, 1U);
}

TEST_F(DataPortTest, AnInterfaceThatIsNotHereStopsTheStart) {
  const test::Outcome outcome = RunServer("--net-devices lo,pigeon0 --ram lots");
  EXPECT_EQ(outcome.code, 2) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr("--net-devices 'lo,pigeon0'"));
  EXPECT_THAT(outcome.output, HasSubstr("no interface pigeon0 is up here; there"));
  EXPECT_THAT(outcome.output, HasSubstr("lo"));
  EXPECT_THAT(outcome.output, HasSubstr("--ram"));
}

}  // namespace
}  // namespace passband::testing
