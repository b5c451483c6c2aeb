// Goal: the log of a whole run at its most talkative level shows no key, no token of a session, no
// secret, no prompt and no rows, whatever goes wrong meanwhile.
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "gmock/gmock.h"
#include "tests/services/call_table.h"
#include "tests/services/grpc_client.h"
#include "tests/services/server_fixture.h"
#include "tests/support/certificates.h"
#include "tests/support/server_process.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint32_t kPromptToken = 3'141'592'653;

std::string ReadFile(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string Hex(std::span<const std::byte> bytes, const char* format) {
  std::string out;
  for (const std::byte byte : bytes) {
    out += fmt::format(fmt::runtime(format), std::to_integer<int>(byte));
  }
  return out;
}

// Every way in which bytes are likely to be written, eight of them at the least.
std::vector<std::string> Spellings(std::span<const std::byte> bytes) {
  const auto first = bytes.first(8);
  return {Hex(first, "{:02x}"), Hex(first, "{:02X}"), Hex(first, "\\x{:02x}"),
          Hex(first, " {:02x}").substr(1),
          std::string(reinterpret_cast<const char*>(first.data()), 8)};
}

class SecretsInLogsTest : public ::testing::TestWithParam<const char*> {
 protected:
  void Run(std::vector<std::string> more) {
    std::vector<std::string> flags = {
        "--ram",       "16MiB",        "--staging",   "4MiB",        "--huge-pages=off",
        "--pin-limit", "4MiB",         "--log-level", "debug",       "--log-format",
        GetParam(),    "--data-plane", "both",        "--spill-dir", folder_ / "spill"};
    flags.insert(flags.end(), more.begin(), more.end());
    std::filesystem::create_directory(folder_ / "spill");
    auto server = test::ServerProcess::Start({.binary = PASSBAND_SERVER, .flags = flags});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  void IsSecret(const v1::ConnectResponse& session) {
    secrets_.push_back(session.token());
    for (std::string& text : Spellings(std::as_bytes(std::span(session.secret())))) {
      secrets_.push_back(std::move(text));
    }
  }
  // The lines of its body.
  void KeyIsSecret(const std::string& path) {
    std::istringstream lines(ReadFile(path));
    for (std::string line; std::getline(lines, line);) {
      if (line.size() >= 16 && line.find("-----") == std::string::npos) secrets_.push_back(line);
    }
  }
  void RowsAreSecret(uint64_t sequence) {
    const Bytes rows = TestRows(sequence, 0, 0, 1);
    for (std::string& text : Spellings(rows)) secrets_.push_back(std::move(text));
  }

  // All calls there are, with the client's credentials; some are refused.
  void MakeCalls(GrpcClient& client) {
    v1::RegisterModelRequest model;
    *model.mutable_model() = TestModel();
    v1::RegisterModelResponse registered;
    client.control().RegisterModel(client.Context().get(), model, &registered);
    v1::OpenSequenceRequest open;
    open.set_model(TestModel().fingerprint());
    for (int i = 0; i < 64; ++i) open.add_token_ids(kPromptToken);
    v1::OpenSequenceResponse opened;
    client.control().OpenSequence(client.Context().get(), open, &opened);
    const Owned owned{.open = opened.sequence(), .sealed = opened.sequence()};
    for (uint16_t layer = 0; layer < kLayers; ++layer) {
      client.Append(owned.open, layer, 0, 64, TestRows(owned.open, layer, 0, 64));
    }
    RowsAreSecret(owned.open);
    for (const auto& [method, call] : DataCalls()) call.send(client, owned);
    for (const auto& [method, call] : ControlCalls()) {
      if (method.ends_with("/Disconnect") || method.ends_with("/Drain")) continue;
      const std::string bytes = call.request(owned)->SerializeAsString();
      client.Send(method, ToBuffer(std::as_bytes(std::span(bytes))));
    }
  }

  // Ends the run.
  void ExpectNoneShown() {
    EXPECT_EQ(server_->Stop(), 0);
    const std::string log = server_->Log();
    EXPECT_THAT(log, HasSubstr("call_failed")) << "the level that was asked for";
    EXPECT_THAT(log, HasSubstr("server_stopped"));
    secrets_.push_back(std::to_string(kPromptToken));
    EXPECT_GT(secrets_.size(), 10U);
    for (const std::string& secret : secrets_) {
      EXPECT_THAT(log, Not(HasSubstr(secret))) << "a secret of " << secret.size() << " letters";
    }
  }

  const test::TempFolder folder_;
  std::unique_ptr<test::ServerProcess> server_;
  std::vector<std::string> secrets_;
};

TEST_P(SecretsInLogsTest, WithoutTls) {
  ASSERT_NO_FATAL_FAILURE(Run({}));
  GrpcClient client(server_->control_address());
  ASSERT_TRUE(client.Connect("a").ok());
  IsSecret(client.session());
  MakeCalls(client);
  // The secrets of one session, shown in the name of another and with a tenant's name.
  GrpcClient other(server_->control_address());
  ASSERT_TRUE(other.Connect("b").ok());
  IsSecret(other.session());
  other.credentials().session = client.credentials().session;
  MakeCalls(other);
  EXPECT_FALSE(GrpcClient(server_->control_address()).Connect(client.session().token() + "/").ok());
  RawClient raw(server_->control_address(), "a");
  IsSecret(raw.session());
  ASSERT_TRUE(raw.Hello().ok());
  EXPECT_FALSE(raw.Read(1, 0, 0, 10).status.ok());
  raw.Send(static_cast<transport::MessageType>(9), Bytes(80), Bytes(8));  // malformed
  raw.Vanish();
  ExpectNoneShown();
}

TEST_P(SecretsInLogsTest, WithMutualTlsAndKeysThatDoNotFit) {
  const test::CertificateAuthority authority(folder_.path(), "authority");
  const TlsFiles files = authority.Issue("server", {.common_name = "server", .loopback = true});
  KeyIsSecret(files.key);
  ASSERT_NO_FATAL_FAILURE(Run({"--tls-cert", files.certificate, "--tls-key", files.key,
                               "--tls-client-ca", files.ca, "--operators", "ann"}));
  const TlsFiles tenant = authority.Issue("tenant", {.uris = {"spiffe://test/tenant/a"}});
  KeyIsSecret(tenant.key);
  GrpcClient client(server_->control_address(), tenant);
  ASSERT_TRUE(client.Connect("a").ok());
  IsSecret(client.session());
  MakeCalls(client);
  GrpcClient thief(server_->control_address(),
                   authority.Issue("thief", {.uris = {"spiffe://test/tenant/b"}}));
  thief.credentials() = client.credentials();
  MakeCalls(thief);
  // A key that is not the certificate's, then one that is cut short, then the key where the
  // certificate belongs.
  const TlsFiles next = authority.Issue("next", {.common_name = "server", .loopback = true});
  KeyIsSecret(next.key);
  const std::string key = ReadFile(next.key);
  const auto refused = [&](const std::string& path, const std::string& text, const char* why) {
    std::ofstream(path) << text;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (server_->Log().find(why) == std::string::npos &&
           std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    EXPECT_THAT(server_->Log(), HasSubstr(why));
  };
  refused(files.key, key, "is not the key of");
  refused(files.key, key.substr(0, key.size() / 2), "holds no private key");
  refused(files.certificate, key, "holds no certificate");
  ExpectNoneShown();
}

INSTANTIATE_TEST_SUITE_P(Formats, SecretsInLogsTest, ::testing::Values("text", "json"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace passband::testing
