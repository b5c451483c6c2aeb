// Goal: new certificates are taken as a whole and when they are good; whatever else is found, those
// before them serve on, and one line of the log and a metric say so.
#include "services/server/tls_watch.h"

#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "gmock/gmock.h"
#include "tests/services/grpc_client.h"
#include "tests/services/server_fixture.h"
#include "tests/support/certificates.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {
namespace {

using server::TlsWatch;
using test::CertificateAuthority;
using ::testing::AllOf;
using ::testing::HasSubstr;

void Write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

std::string ReadFile(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

void Copy(const std::string& from, const std::string& to) { Write(to, ReadFile(from)); }

class TlsWatchTest : public ::testing::Test {
 protected:
  TlsFiles Issue(const std::string& name, int to_days = 30, int from_days = -1) {
    return authority_.Issue(name, {.common_name = name,
                                   .loopback = true,
                                   .valid_from_days = from_days,
                                   .valid_to_days = to_days});
  }

  test::TempFolder folder_;
  const CertificateAuthority authority_{folder_.path(), "authority"};
  // The authority in a file of its own, which others do not use.
  TlsFiles files_ = [this] {
    TlsFiles files = Issue("server", 30);
    files.ca = folder_ / "clients.crt";
    Copy(authority_.file(), files.ca);
    return files;
  }();
};

TEST_F(TlsWatchTest, WhatCannotBeUsedIsNotTaken) {
  const TlsFiles other = Issue("other");
  const TlsFiles expired = Issue("expired", -1, -3);
  const TlsFiles early = Issue("early", 9, 2);
  const std::string key = ReadFile(files_.key);
  const std::string certificate = ReadFile(files_.certificate);
  const struct {
    const char* why;
    std::function<void()> damage;
  } kFaults[] = {
      {"--tls-cert", [&] { Write(files_.certificate, "nonsense"); }},
      {"--tls-cert", [&] { Write(files_.certificate, certificate.substr(0, 200)); }},
      {"--tls-cert", [&] { std::filesystem::remove(files_.certificate); }},
      {"expired on", [&] { Copy(expired.certificate, files_.certificate); }},
      {"is not valid before", [&] { Copy(early.certificate, files_.certificate); }},
      {"is not the key of", [&] { Copy(other.certificate, files_.certificate); }},
      {"is not the key of", [&] { Copy(other.key, files_.key); }},
      {"--tls-key", [&] { Write(files_.key, key.substr(0, key.size() / 2)); }},
      {"--tls-key", [&] { Write(files_.key, ""); }},
      {"--tls-client-ca", [&] { Write(files_.ca, "nonsense"); }},
      {"--tls-client-ca", [&] { Copy(expired.certificate, files_.ca); }},
  };
  const auto watch = TlsWatch::Start(files_);
  ASSERT_TRUE(watch.ok()) << watch.status();
  const auto texts = (*watch)->texts();
  uint64_t refused = 0;
  for (const auto& fault : kFaults) {
    SCOPED_TRACE(fault.why);
    ::testing::internal::CaptureStderr();
    fault.damage();
    (*watch)->Look();
    (*watch)->Look();  // told once
    const std::string log = ::testing::internal::GetCapturedStderr();
    EXPECT_THAT(log, AllOf(HasSubstr("warning certificates_refused"), HasSubstr(fault.why)));
    EXPECT_EQ(log.find("certificates_refused"), log.rfind("certificates_refused"));
    EXPECT_EQ((*watch)->texts(), texts);
    EXPECT_FALSE((*watch)->stats().healthy);
    EXPECT_EQ((*watch)->stats().refused, ++refused);
    // As they were: nothing is new, and nothing wrong any more.
    Write(files_.key, key);
    Write(files_.certificate, certificate);
    Copy(authority_.file(), files_.ca);
    (*watch)->Look();
    EXPECT_TRUE((*watch)->stats().healthy);
    EXPECT_EQ((*watch)->texts(), texts);
  }
  EXPECT_EQ((*watch)->stats().taken, 0U);
}

TEST_F(TlsWatchTest, WhatIsGoodIsTaken) {
  const auto watch = TlsWatch::Start(files_);
  ASSERT_TRUE(watch.ok()) << watch.status();
  const TlsWatch::Stats before = (*watch)->stats();
  const TlsFiles next = Issue("next", 60);
  Copy(next.key, files_.key);
  (*watch)->Look();
  EXPECT_FALSE((*watch)->stats().healthy) << "half of it is there";
  Copy(next.certificate, files_.certificate);
  (*watch)->Look();
  const TlsWatch::Stats after = (*watch)->stats();
  EXPECT_TRUE(after.healthy);
  EXPECT_EQ(after.taken, 1U);
  EXPECT_EQ((*watch)->texts()->key, ReadFile(next.key));
  constexpr double kDay = 24 * 3600;
  EXPECT_NEAR(after.valid_until_seconds - before.valid_until_seconds, 30 * kDay, 60);
  EXPECT_NEAR(after.valid_until_seconds - after.valid_from_seconds, 61 * kDay, 60);
}

TEST_F(TlsWatchTest, AFaultAtTheStartStopsIt) {
  Write(files_.key, "nonsense");
  const Status status = TlsWatch::Start(files_).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(status), HasSubstr("--tls-key"));
}

class TlsWatchServerTest : public ServerTest {
 protected:
  void SetUp() override {}
  bool Eventually(const std::function<bool()>& condition) {
    const Time end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return true;
  }
};

TEST_F(TlsWatchServerTest, TheOldCertificateServesWhileTheNewOneIsBroken) {
  test::TempFolder folder;
  const CertificateAuthority authority(folder.path(), "authority");
  const TlsFiles files = authority.Issue("server", {.common_name = "server", .loopback = true});
  server::Settings settings = SmallSettings();
  settings.tls = files;
  ASSERT_NO_FATAL_FAILURE(Start(settings));
  const TlsFiles tenant = authority.Issue("tenant", {.uris = {"spiffe://test/tenant/a"}});
  const auto connects = [&] {
    const grpc::Status status = GrpcClient(ControlAddress(*server_), tenant).Connect("a");
    EXPECT_TRUE(status.ok()) << status.error_message();
    return status.ok();
  };
  EXPECT_TRUE(connects());
  EXPECT_EQ(Metric(*server_, "passband_tls_healthy"), 1);
  const double until = Metric(*server_, "passband_tls_certificate_end_timestamp_seconds");
  const std::string good = ReadFile(files.certificate);
  for (const std::string& broken : {std::string("nonsense"), good.substr(0, good.size() / 2)}) {
    Write(files.certificate, broken);
    EXPECT_TRUE(Eventually([&] { return Metric(*server_, "passband_tls_healthy") == 0; }));
    EXPECT_TRUE(connects());
    Write(files.certificate, good);
    EXPECT_TRUE(Eventually([&] { return Metric(*server_, "passband_tls_healthy") == 1; }));
  }
  EXPECT_GE(Metric(*server_, "passband_tls_reloads_total{result=\"refused\"}"), 2);
  const TlsFiles next =
      authority.Issue("next", {.common_name = "server", .loopback = true, .valid_to_days = 90});
  std::filesystem::rename(next.key, files.key);
  std::filesystem::rename(next.certificate, files.certificate);
  EXPECT_TRUE(Eventually(
      [&] { return Metric(*server_, "passband_tls_reloads_total{result=\"taken\"}") == 1; }));
  EXPECT_GT(Metric(*server_, "passband_tls_certificate_end_timestamp_seconds"), until);
  EXPECT_TRUE(connects());
}

}  // namespace
}  // namespace passband::testing
