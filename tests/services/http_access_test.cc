// Goal: the HTTP port shows figures to whoever reaches it, and that is all: no path of it changes
// anything or shows a secret, and nothing else is there.
#include <httplib.h>

#include "gmock/gmock.h"
#include "services/server/http_service.h"
#include "tests/services/server_fixture.h"

namespace passband::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

class HttpAccessTest : public ServerTest {
 protected:
  void SetUp() override {
    ServerTest::SetUp();
    owner_ = Client("a");
    ASSERT_TRUE(owner_->Hello().ok());
    sequence_ = Open(*owner_, std::vector<uint32_t>(64, 7));
    ASSERT_TRUE(Fill(*owner_, sequence_, 0, 64).ok());
  }
  httplib::Client Http() {
    httplib::Client client(server_->endpoints().host, server_->endpoints().http_port);
    client.set_read_timeout(20);
    return client;
  }
  httplib::Result Send(const std::string& method, const std::string& path,
                       const std::string& body = "") {
    httplib::Request request;
    request.method = method;
    request.path = path;
    request.body = body;
    return Http().send(request);
  }

  std::unique_ptr<RawClient> owner_;
  uint64_t sequence_ = 0;
};

TEST_F(HttpAccessTest, OnlyWhatIsMeantToBeThere) {
  EXPECT_THAT(
      server::HttpService::Paths(),
      UnorderedElementsAre("/", "/metrics", "/healthz", "/readyz", "/version", "/status.json"));
  for (const char* path :
       {"/metrics/", "/status", "/debug", "/debug/config", "/drain", "/shutdown", "/..",
        "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/status.json/x"}) {
    const auto answer = Send("GET", path);
    ASSERT_TRUE(answer) << path;
    EXPECT_EQ(answer->status, 404) << path;
    EXPECT_THAT(answer->body, Not(HasSubstr("root:"))) << path;
  }
}

TEST_F(HttpAccessTest, NothingCanBeChanged) {
  for (const std::string& path : server::HttpService::Paths()) {
    EXPECT_EQ(Send("GET", path)->status, 200) << path;
    for (const char* method : {"POST", "PUT", "PATCH", "DELETE", "OPTIONS"}) {
      const auto answer = Send(method, path, "drain=1");
      ASSERT_TRUE(answer) << method << path;
      EXPECT_EQ(answer->status, 404) << method << path;
    }
  }
  EXPECT_EQ(Get(*server_, "/readyz"), "ready\n");
  EXPECT_EQ(owner_->Read(sequence_, 1, 0, 64).payload, TestRows(sequence_, 1, 0, 64));
  EXPECT_EQ(Metric(*server_, "passband_sessions"), 1);
}

TEST_F(HttpAccessTest, NoSecretIsShown) {
  const std::string& secret = owner_->session().secret();
  std::string hex;
  for (const unsigned char byte : secret) hex += fmt::format("{:02x}", byte);
  for (const std::string& path : server::HttpService::Paths()) {
    const auto answer = Send("GET", path + "?session=1&token=2");
    ASSERT_TRUE(answer) << path;
    for (const std::string& hidden : {owner_->session().token(), secret, hex, hex.substr(0, 16),
                                      fmt::format("{:016x}", owner_->session().session()),
                                      std::to_string(owner_->session().session())}) {
      EXPECT_THAT(answer->body, Not(HasSubstr(hidden))) << path;
    }
    // No other page may read it, frame it, or take it for something else.
    EXPECT_FALSE(answer->has_header("Access-Control-Allow-Origin")) << path;
    EXPECT_EQ(answer->get_header_value("X-Content-Type-Options"), "nosniff") << path;
  }
}

TEST_F(HttpAccessTest, WhatIsTooLargeIsRefused) {
  const auto body = Send("POST", "/", std::string(1 << 20, 'x'));
  if (body) {
    EXPECT_GE(body->status, 400);
  }
  httplib::Client client = Http();
  const auto header = client.Get("/", {{"X", std::string(1 << 20, 'x')}});
  if (header) {
    EXPECT_GE(header->status, 400);
  }
  const auto path = client.Get("/" + std::string(1 << 20, 'x'));
  if (path) {
    EXPECT_GE(path->status, 400);
  }
  EXPECT_EQ(Get(*server_, "/healthz"), "ok\n");
}

}  // namespace
}  // namespace passband::testing
