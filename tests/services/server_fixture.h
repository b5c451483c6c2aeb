// A small server in this process, a model and a profile for it, and rows that follow from where
// they stand, so that every reply can be checked byte by byte.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "profile/profile.h"
#include "services/server/server.h"
#include "tests/services/raw_client.h"

namespace passband::testing {

inline constexpr uint32_t kLayers = 2;
inline constexpr uint16_t kKvHeads = 2;
inline constexpr uint32_t kHeadDim = 64;
inline constexpr uint32_t kRowBytes = 2 * kHeadDim * 2;
inline constexpr uint64_t kBlockBytes = uint64_t{64} * kKvHeads * kRowBytes;

server::Settings SmallSettings();
std::string ControlAddress(const server::Server& server);
// Body of an HTTP GET, or "" when the status is not `status`.
std::string Get(const server::Server& server, const std::string& path, int status = 200);
// The value of a metric, with its labels as written; -1 when it is not there.
double Metric(const server::Server& server, const std::string& series);
double Metric(const std::string& host, uint16_t http_port, const std::string& series);

// Every TCP socket that this process listens on.
struct ListeningSocket {
  std::string address;  // "127.0.0.1"; of IPv6, as the kernel writes it: 32 digits
  uint16_t port = 0;
};
std::vector<ListeningSocket> ListeningSockets();
// Sends `opening` and up to 5000 random bytes to a port of the loopback interface, and hangs
// up. False when nobody listens there.
bool SendRandomBytes(uint16_t port, std::mt19937_64& random, const std::string& opening = "");

v1::Model TestModel();
std::shared_ptr<const Profile> TestProfile();

// The row of one token, whatever else is where.
Bytes TestRow(uint64_t sequence, uint32_t layer, uint32_t kv_head, uint64_t token);
// [kv_head][count][kRowBytes]
Bytes TestRows(uint64_t sequence, uint32_t layer, uint64_t first, uint32_t count);

class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(SmallSettings()); }

  void Start(const server::Settings& settings) {
    server_.reset();
    auto server = server::Server::Start(settings);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  std::unique_ptr<RawClient> Client(const std::string& tenant = "a",
                                    const std::string& tls = "auto") {
    return std::make_unique<RawClient>(ControlAddress(*server_), tenant, tls);
  }
  // Registers the test model if needed, and opens a sequence of it.
  uint64_t Open(RawClient& client, const std::vector<uint32_t>& tokens = {});
  // Appends tokens [first, first + count) to every layer, block by block.
  Status Fill(RawClient& client, uint64_t sequence, uint64_t first, uint64_t count);
  bool Exists(RawClient& client, uint64_t sequence);

  std::unique_ptr<server::Server> server_;
};

}  // namespace passband::testing
