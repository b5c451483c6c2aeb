#include "tests/services/server_fixture.h"

#include <arpa/inet.h>
#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "base/units.h"

namespace passband::testing {

server::Settings SmallSettings() {
  server::Settings settings;
  settings.control_port = 0;
  settings.data_port = 0;
  settings.http_port = 0;
  settings.ram_bytes = 16 * kMiB;
  settings.staging_bytes = 4 * kMiB;
  settings.huge_pages = false;
  settings.stop_timeout = std::chrono::seconds(2);
  return settings;
}

std::string ControlAddress(const server::Server& server) {
  return server::HostPort(server.endpoints().host, server.endpoints().control_port);
}

static std::string Get(const std::string& host, uint16_t port, const std::string& path,
                       int status) {
  httplib::Client client(host, port);
  const auto response = client.Get(path);
  return response && response->status == status ? response->body : "";
}

std::string Get(const server::Server& server, const std::string& path, int status) {
  return Get(server.endpoints().host, server.endpoints().http_port, path, status);
}

double Metric(const server::Server& server, const std::string& series) {
  return Metric(server.endpoints().host, server.endpoints().http_port, series);
}

double Metric(const std::string& host, uint16_t http_port, const std::string& series) {
  std::istringstream lines(Get(host, http_port, "/metrics", 200));
  std::string line;
  while (std::getline(lines, line)) {
    if (line.rfind(series + " ", 0) == 0) return std::stod(line.substr(series.size() + 1));
  }
  return -1;
}

std::string AddressOf(const std::string& hex) {
  if (hex.size() != 8) return hex;
  in_addr address{.s_addr = static_cast<in_addr_t>(std::stoul(hex, nullptr, 16))};
  std::array<char, INET_ADDRSTRLEN> text{};
  return inet_ntop(AF_INET, &address, text.data(), text.size());
}

std::vector<ListeningSocket> ListeningSockets() {
  std::set<std::string> inodes;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    if (target.starts_with("socket:[")) inodes.insert(target.substr(8, target.size() - 9));
  }
  std::vector<ListeningSocket> sockets;
  for (const char* path : {"/proc/self/net/tcp", "/proc/self/net/tcp6"}) {
    std::ifstream table(path);
    std::string line;
    std::getline(table, line);  // headings
    while (std::getline(table, line)) {
      std::istringstream words(line);
      std::string number, local, remote, state, skipped, inode;
      words >> number >> local >> remote >> state;
      for (int i = 0; i < 5; ++i) words >> skipped;
      words >> inode;
      if (state != "0A" || !inodes.contains(inode)) continue;
      const size_t colon = local.find(':');
      sockets.push_back(
          {.address = AddressOf(local.substr(0, colon)),
           .port = static_cast<uint16_t>(std::stoul(local.substr(colon + 1), nullptr, 16))});
    }
  }
  return sockets;
}

bool SendRandomBytes(uint16_t port, std::mt19937_64& random, const std::string& opening) {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool connected =
      connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  std::string bytes = opening;
  for (size_t n = random() % 5000; n > 0; --n) bytes += static_cast<char>(random());
  // The server may have hung up at the first wrong byte.
  if (connected) (void)send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  close(socket);
  return connected;
}

v1::Model TestModel() {
  v1::Model model;
  model.set_fingerprint(TestProfile()->fingerprint.text());
  model.set_name("test");
  model.set_layers(kLayers);
  model.set_kv_heads(kKvHeads);
  model.set_head_dim(kHeadDim);
  model.set_rotary_dim(kHeadDim);
  model.set_dtype("bf16");
  model.set_rope_layout("half");
  return model;
}

std::shared_ptr<const Profile> TestProfile() {
  auto profile = std::make_shared<Profile>();
  profile->model_name = "test";
  profile->fingerprint = {std::string(64, 'a'), std::string(64, 'b')};
  profile->shape = {.head_dim = kHeadDim, .rotary_dim = kHeadDim};
  profile->layers = kLayers;
  profile->query_heads = 2 * kKvHeads;
  profile->kv_heads = kKvHeads;
  profile->encoding = kernels::SliceEncoding::kInt4;
  profile->provenance.selector = "greedy";
  profile->provenance.pairing = "rope";
  for (uint32_t i = 0; i < kLayers * kKvHeads; ++i) {
    auto spec = std::make_shared<kernels::SliceSpec>();
    spec->shape = profile->shape;
    spec->encoding = profile->encoding;
    for (uint16_t chunk = 0; chunk < 4; ++chunk) {
      spec->chunks.push_back(static_cast<uint16_t>(5 * chunk + i));
    }
    spec->mean.assign(8, 0.25F * static_cast<float>(i));
    spec->deviation.assign(8, 1.0F);
    profile->specs.push_back(std::move(spec));
  }
  const Status finished = profile->Finish();
  EXPECT_TRUE(finished.ok()) << finished;
  return profile;
}

Bytes TestRow(uint64_t sequence, uint32_t layer, uint32_t kv_head, uint64_t token) {
  Bytes row(kRowBytes);
  uint64_t state = sequence * 1'000'003 + layer * 10'007 + kv_head * 101 + token;
  for (std::byte& byte : row) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    byte = static_cast<std::byte>(state >> 56);
  }
  return row;
}

Bytes TestRows(uint64_t sequence, uint32_t layer, uint64_t first, uint32_t count) {
  Bytes rows;
  rows.reserve(size_t{kKvHeads} * count * kRowBytes);
  for (uint32_t head = 0; head < kKvHeads; ++head) {
    for (uint64_t token = first; token < first + count; ++token) {
      const Bytes row = TestRow(sequence, layer, head, token);
      rows.insert(rows.end(), row.begin(), row.end());
    }
  }
  return rows;
}

uint64_t ServerTest::Open(RawClient& client, const std::vector<uint32_t>& tokens) {
  v1::RegisterModelRequest model;
  *model.mutable_model() = TestModel();
  v1::RegisterModelResponse registered;
  grpc::Status status = client.stub().RegisterModel(client.Context().get(), model, &registered);
  EXPECT_TRUE(status.ok()) << status.error_message();
  v1::OpenSequenceRequest request;
  request.set_model(TestModel().fingerprint());
  request.set_share_prefix(true);
  for (const uint32_t token : tokens) request.add_token_ids(token);
  v1::OpenSequenceResponse response;
  status = client.stub().OpenSequence(client.Context().get(), request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response.sequence();
}

Status ServerTest::Fill(RawClient& client, uint64_t sequence, uint64_t first, uint64_t count) {
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    for (uint64_t token = first; token < first + count;) {
      const auto part = static_cast<uint32_t>(std::min(64 - token % 64, first + count - token));
      const RawReply reply =
          client.Append(sequence, static_cast<uint16_t>(layer), token, part, kKvHeads, kRowBytes,
                        TestRows(sequence, layer, token, part));
      PASSBAND_RETURN_IF_ERROR(reply.status);
      if (reply.header.rows != uint64_t{part} * kKvHeads) {
        return Error(StatusCode::kInternal, "{} rows acknowledged", reply.header.rows);
      }
      token += part;
    }
  }
  return OkStatus();
}

bool ServerTest::Exists(RawClient& client, uint64_t sequence) {
  v1::StatSequenceRequest request;
  request.set_sequence(sequence);
  v1::StatSequenceResponse response;
  return client.stub().StatSequence(client.Context().get(), request, &response).ok();
}

}  // namespace passband::testing
