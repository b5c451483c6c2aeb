#include "tests/sdk/cluster/cluster_world.h"

#include <algorithm>
#include <array>

namespace passband::test {

using chaos::kBlockTokens;
using chaos::kKvHeads;
using chaos::kLayers;
using chaos::kRowBytes;

void ClusterWorld::Start(size_t servers, std::vector<std::string> flags) {
  options_.binary = PASSBAND_SERVER_BINARY;
  options_.flags = {"--ram", "64MiB", "--transports", "posix,tcp,self"};
  options_.flags.insert(options_.flags.end(), flags.begin(), flags.end());
  for (size_t i = 0; i < servers; ++i) {
    auto server = ServerProcess::Start(options_);
    ASSERT_TRUE(server.ok()) << server.status();
    addresses_.push_back((*server)->control_address());
    servers_.push_back(*std::move(server));
  }
}

void ClusterWorld::StartAgain(size_t server) {
  ServerProcess::Options options = options_;
  options.control_port = servers_[server]->control_port();
  servers_[server].reset();
  auto started = ServerProcess::Start(options);
  ASSERT_TRUE(started.ok()) << started.status();
  servers_[server] = *std::move(started);
}

size_t ClusterWorld::IndexOf(const std::string& address) const {
  return static_cast<size_t>(std::find(addresses_.begin(), addresses_.end(), address) -
                             addresses_.begin());
}

std::string ClusterWorld::List() const {
  std::string out;
  for (const std::string& address : addresses_) out += address + ",";
  return out;
}

ClusterOptions ClusterWorld::Options() const {
  ClusterOptions options{.servers = List()};
  options.remote.transports = "posix,tcp,self";
  options.breaker = {.first_pause = std::chrono::milliseconds(20),
                     .longest_pause = std::chrono::milliseconds(200)};
  options.check_every = std::chrono::milliseconds(100);
  return options;
}

std::unique_ptr<ClusterService> ClusterWorld::Connect(const ClusterOptions& options) {
  auto service = ClusterService::Connect(options);
  EXPECT_TRUE(service.ok()) << service.status();
  if (!service.ok()) return nullptr;
  const Status registered = (*service)->RegisterModel(chaos::ChaosModel());
  EXPECT_TRUE(registered.ok()) << registered;
  return *std::move(service);
}

std::vector<uint32_t> TokensOf(uint64_t key, uint64_t tokens) {
  const chaos::Content content{.key = key, .branch = tokens, .after = key};
  std::vector<uint32_t> out;
  for (uint64_t token = 0; token < tokens; ++token) out.push_back(content.TokenId(token));
  return out;
}

StatusOr<OpenedSequence> Store(KvService& service, uint64_t key, uint64_t tokens) {
  PASSBAND_ASSIGN_OR_RETURN(const OpenedSequence opened,
                            service.Open({.model = chaos::ChaosModel().fingerprint.text(),
                                          .token_ids = TokensOf(key, tokens)}));
  PASSBAND_RETURN_IF_ERROR(AppendRows(service, opened.id, key, opened.matched_tokens, tokens));
  return opened;
}

Status AppendRows(KvService& service, SequenceId sequence, uint64_t key, uint64_t first,
                  uint64_t tokens) {
  for (uint64_t at = first; at < tokens;) {
    const auto count =
        static_cast<uint32_t>(std::min<uint64_t>(kBlockTokens - at % kBlockTokens, tokens - at));
    std::vector<std::byte> rows(size_t{kKvHeads} * count * kRowBytes);
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      for (size_t i = 0; i < size_t{kKvHeads} * count; ++i) {
        chaos::WriteRow(key, layer, static_cast<uint32_t>(i / count), at + i % count,
                        std::span(rows).subspan(i * kRowBytes, kRowBytes));
      }
      PASSBAND_RETURN_IF_ERROR(service.Append({sequence, layer, at, count, rows}));
    }
    at += count;
  }
  return service.Flush(sequence);
}

void RandomFetch::Add(SequenceId sequence, uint64_t key, size_t count, uint64_t tokens) {
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    for (uint32_t head = 0; head < kKvHeads; ++head) {
      Wanted& wanted = wanted_.emplace_back(Wanted{sequence, key, layer, head, {}});
      for (size_t i = 0; i < count; ++i) {
        wanted.tokens.push_back(static_cast<uint32_t>(random_() % tokens));
      }
    }
  }
}

void RandomFetch::Shuffle() { std::shuffle(wanted_.begin(), wanted_.end(), random_); }

std::unique_ptr<PendingRows> RandomFetch::Start(KvService& service) {
  std::vector<FetchGroup> groups;
  for (const Wanted& wanted : wanted_) {
    groups.push_back({wanted.sequence, wanted.layer, wanted.head, wanted.tokens});
  }
  return service.StartFetch({groups, kRowBytes, {}});
}

Status RandomFetch::Collect(PendingRows& pending) {
  PASSBAND_ASSIGN_OR_RETURN(auto rows, pending.Wait());
  for (const Wanted& wanted : wanted_) {
    for (const uint32_t token : wanted.tokens) {
      if (rows.size() < kRowBytes) return Error(StatusCode::kInternal, "rows are missing");
      if (!chaos::IsRow(wanted.key, wanted.layer, wanted.head, token, rows.first(kRowBytes))) {
        ADD_FAILURE() << "wrong bytes: key " << wanted.key << " layer " << wanted.layer << " head "
                      << wanted.head << " token " << token;
        return Error(StatusCode::kDataLoss, "wrong bytes");
      }
      rows = rows.subspan(kRowBytes);
      ++rows_;
    }
  }
  EXPECT_TRUE(rows.empty());
  return OkStatus();
}

Status RandomFetch::Run(KvService& service) { return Collect(*Start(service)); }

}  // namespace passband::test
