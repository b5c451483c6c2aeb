#include "tests/sdk/service_fixture.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/hash.h"
#include "kernels/dtype.h"
#include "kernels/slice.h"
#include "sdk/embedded/embedded_service.h"

namespace passband::test {
namespace {

std::string Digest(const std::string& text) {
  return ToHex(HashSha256(std::as_bytes(std::span(text))));
}

}  // namespace

ModelInfo SmallModel() {
  return {
      .fingerprint = {Digest("small shape"), Digest("small weights")},
      .name = "small",
      .layers = 3,
      .query_heads = 4,
      .kv_heads = 2,
      .head = {.head_dim = 32, .rotary_dim = 32},
  };
}

std::shared_ptr<const Profile> SmallProfile(std::mt19937_64& random) {
  const ModelInfo model = SmallModel();
  auto profile = std::make_shared<Profile>();
  profile->model_name = model.name;
  profile->fingerprint = model.fingerprint;
  profile->shape = model.head;
  profile->layers = model.layers;
  profile->query_heads = model.query_heads;
  profile->kv_heads = model.kv_heads;
  profile->encoding = kernels::SliceEncoding::kInt2;
  profile->provenance = {.selector = "greedy",
                         .pairing = "rope",
                         .text_digest = Digest("text"),
                         .tool_version = "test"};
  std::uniform_real_distribution<float> mean(-0.5f, 0.5f), deviation(0.5f, 1.5f);
  for (uint32_t i = 0; i < model.layers * model.kv_heads; ++i) {
    auto spec = std::make_shared<kernels::SliceSpec>();
    spec->shape = model.head;
    spec->encoding = profile->encoding;
    std::vector<uint16_t> chunks(static_cast<size_t>(model.head.chunks()));
    std::iota(chunks.begin(), chunks.end(), uint16_t{0});
    std::shuffle(chunks.begin(), chunks.end(), random);
    spec->chunks.assign(chunks.begin(), chunks.begin() + 6);
    std::sort(spec->chunks.begin(), spec->chunks.end());
    for (int c = 0; c < spec->components(); ++c) {
      spec->mean.push_back(mean(random));
      spec->deviation.push_back(deviation(random));
    }
    profile->specs.push_back(std::move(spec));
  }
  const Status finished = profile->Finish();
  EXPECT_TRUE(finished.ok()) << finished;
  return profile;
}

std::vector<std::byte> ExpectedRows::Grow(uint32_t layer, uint32_t count) {
  std::normal_distribution<float> value;
  const size_t row_bytes = model_.head.row_bytes();
  std::vector<std::byte> out;
  for (uint32_t head = 0; head < model_.kv_heads; ++head) {
    std::vector<float> floats(2 * model_.head.head_dim * size_t{count});
    for (float& f : floats) f = value(random_);
    std::vector<std::byte> rows(count * row_bytes);
    kernels::FloatToDType(floats.data(), floats.size(), model_.head.dtype, rows.data());
    out.insert(out.end(), rows.begin(), rows.end());
    auto& all = rows_[{layer, head}];
    all.insert(all.end(), rows.begin(), rows.end());
  }
  return out;
}

void ExpectedRows::Truncate(uint64_t tokens) {
  for (auto& [key, rows] : rows_) {
    rows.resize(std::min<size_t>(rows.size(), tokens * model_.head.row_bytes()));
  }
}

uint64_t ExpectedRows::length(uint32_t layer) const {
  const auto found = rows_.find({layer, 0});
  return found == rows_.end() ? 0 : found->second.size() / model_.head.row_bytes();
}

std::span<const std::byte> ExpectedRows::Row(uint32_t layer, uint32_t kv_head,
                                             uint64_t token) const {
  const size_t row_bytes = model_.head.row_bytes();
  return std::span(rows_.at({layer, kv_head})).subspan(token * row_bytes, row_bytes);
}

std::vector<std::byte> ExpectedRows::Range(uint32_t layer, uint64_t first, uint64_t count) const {
  std::vector<std::byte> out;
  for (uint32_t head = 0; head < model_.kv_heads; ++head) {
    for (uint64_t token = first; token < first + count; ++token) {
      const auto row = Row(layer, head, token);
      out.insert(out.end(), row.begin(), row.end());
    }
  }
  return out;
}

std::vector<std::byte> ExpectedRows::Slices(const Profile& profile, uint32_t layer, uint64_t first,
                                            uint64_t count) const {
  std::vector<std::byte> out(model_.kv_heads * count * profile.slice_bytes());
  for (uint32_t head = 0; head < model_.kv_heads; ++head) {
    kernels::EncodeSlices(*profile.spec(layer, head), Row(layer, head, first).data(),
                          model_.head.row_bytes(), count,
                          out.data() + head * count * profile.slice_bytes());
  }
  return out;
}

Status AppendUpTo(KvService& service, const ModelInfo& model, SequenceId sequence,
                  ExpectedRows& rows, uint64_t tokens, std::mt19937_64& random) {
  std::vector<uint32_t> layers(model.layers);
  std::iota(layers.begin(), layers.end(), 0);
  std::shuffle(layers.begin(), layers.end(), random);
  for (const uint32_t layer : layers) {
    for (uint64_t at = rows.length(layer); at < tokens;) {
      const uint64_t in_block = 64 - at % 64;
      const auto most = static_cast<uint32_t>(std::min<uint64_t>(in_block, tokens - at));
      // Whole blocks are the usual case; the rest comes in pieces of any size.
      const uint32_t count =
          random() % 3 == 0 ? most : std::uniform_int_distribution<uint32_t>(1, most)(random);
      const auto bytes = rows.Grow(layer, count);
      PASSBAND_RETURN_IF_ERROR(service.Append({sequence, layer, at, count, bytes}));
      at += count;
    }
  }
  return service.Flush(sequence);
}

std::string WayName(Way way) {
  switch (way) {
    case Way::kEmbedded:
      return "Embedded";
    case Way::kShm:
      return "Shm";
    case Way::kTcp:
      return "Tcp";
    case Way::kGrpc:
      return "Grpc";
    case Way::kMtls:
      return "Mtls";
    case Way::kCluster:
      return "Cluster";
  }
  return "";
}

void ServiceUnderTest::Start(Way way, ServiceSetup setup) {
  if (way == Way::kEmbedded) {
    auto service = EmbeddedService::Create(EmbeddedOptions{
        .ram_bytes = setup.ram_bytes, .append_retry_budget = setup.remote.append_retry_budget});
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
    return;
  }
  const std::string transports = way == Way::kTcp ? "tcp,self" : "posix,tcp,self";
  const bool grpc = way == Way::kGrpc || way == Way::kMtls;
  server_options_.binary = PASSBAND_SERVER_BINARY;
  server_options_.flags = {"--ram", std::to_string(setup.ram_bytes), "--transports", transports};
  if (grpc) server_options_.flags.insert(server_options_.flags.end(), {"--data-plane", "grpc"});
  server_options_.flags.insert(server_options_.flags.end(), setup.server_flags.begin(),
                               setup.server_flags.end());
  remote_ = setup.remote;
  if (way == Way::kMtls) SecureWithTls();
  if (way == Way::kCluster) return StartCluster();
  auto server = ServerProcess::Start(server_options_);
  ASSERT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
  remote_.control_address = server_->control_address();
  remote_.transports = transports;
  auto service = RemoteService::Connect(remote_);
  ASSERT_TRUE(service.ok()) << service.status() << "\n" << server_->Log();
  service_ = *std::move(service);
  const std::map<Way, std::string> names = {
      {Way::kShm, "shm"}, {Way::kTcp, "tcp"}, {Way::kGrpc, "grpc"}, {Way::kMtls, "grpc+tls"}};
  ASSERT_EQ(service_->transport(), names.at(way));
}

void ServiceUnderTest::StartCluster() {
  cluster_.clear();
  for (int i = 0; i < 3; ++i) {
    auto server = ServerProcess::Start(server_options_);
    ASSERT_TRUE(server.ok()) << server.status();
    cluster_.push_back(*std::move(server));
  }
  auto service = ClusterService::Connect(ClusterOf(""));
  ASSERT_TRUE(service.ok()) << service.status();
  service_ = *std::move(service);
  ASSERT_EQ(service_->transport(), "shm");
}

ClusterOptions ServiceUnderTest::ClusterOf(const std::string& tenant) const {
  ClusterOptions options{.servers = "", .remote = remote_};
  options.remote.tenant = tenant;
  for (const auto& server : cluster_) options.servers += server->control_address() + ",";
  return options;
}

void ServiceUnderTest::SecureWithTls() {
  authority_ = std::make_unique<CertificateAuthority>(folder_.path(), "authority");
  const TlsFiles server =
      authority_->Issue("server", {.common_name = "server", .uris = {}, .loopback = true});
  server_options_.flags.insert(
      server_options_.flags.end(),
      {"--tls-cert", server.certificate, "--tls-key", server.key, "--tls-client-ca", server.ca});
  remote_.tls = CertificateOf("default");
}

TlsFiles ServiceUnderTest::CertificateOf(const std::string& tenant) const {
  return authority_->Issue("client-" + tenant,
                           {.common_name = "", .uris = {"spiffe://test/tenant/" + tenant}});
}

StatusOr<std::unique_ptr<KvService>> ServiceUnderTest::Connect(const std::string& tenant) {
  if (!cluster_.empty()) return ClusterService::Connect(ClusterOf(tenant));
  if (server_ == nullptr) return EmbeddedService::ForTenant(*service_, tenant);
  RemoteOptions options = remote_;
  options.tenant = tenant;
  if (authority_ != nullptr) options.tls = CertificateOf(tenant);
  return RemoteService::Connect(options);
}

StatusOr<std::unique_ptr<RemoteService>> ServiceUnderTest::ConnectRemote() {
  return RemoteService::Connect(remote_);
}

void ServiceUnderTest::RestartServer() {
  server_options_.control_port = server_->control_port();
  server_.reset();
  auto server = ServerProcess::Start(server_options_);
  ASSERT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
}

}  // namespace passband::test
