// Goal: docs/metrics.md and the exposition name the same metrics, with the same types, labels and
// words, and every metric that can change is made to.
#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "base/thread.h"
#include "base/units.h"
#include "kvstore/spill_database.h"
#include "tests/services/exposition.h"
#include "tests/services/server_fixture.h"
#include "tests/support/certificates.h"
#include "tests/support/mounts.h"
#include "tests/support/temp_folder.h"

namespace passband::testing {
namespace {

constexpr uint64_t kBlockTokens = 64;
constexpr uint64_t kTokenBytes = uint64_t{kLayers} * kKvHeads * kRowBytes;

// The tables of the page, and which of their metrics never change.
Families Documented(std::set<std::string>& fixed) {
  Families families;
  std::ifstream page(PASSBAND_SOURCE "/docs/metrics.md");
  EXPECT_TRUE(page.is_open());
  for (std::string line; std::getline(page, line);) {
    if (line.rfind("| `", 0) != 0) continue;
    std::array<std::string, 4> cells;
    std::istringstream row(line.substr(2));
    for (std::string& cell : cells) {
      std::getline(row, cell, '|');
      cell.erase(cell.find_last_not_of(' ') + 1);
      cell.erase(0, cell.find_first_not_of(' '));
    }
    const std::string name = cells[0].substr(1, cells[0].size() - 2);
    if (name.rfind("passband_worker_", 0) == 0) continue;  // tests/operate/live.py
    Family family{.type = cells[1].substr(0, cells[1].find(' ')), .help = cells[3], .labels = {}};
    if (cells[1].find("(fixed)") != std::string::npos) fixed.insert(name);
    std::istringstream labels(cells[2]);
    for (std::string label; labels >> label;) {
      family.labels.insert(label.substr(0, label.find(',')));
    }
    EXPECT_TRUE(families.emplace(name, family).second) << name << " is documented twice";
  }
  return families;
}

class MetricsDocTest : public ServerTest {
 protected:
  void SetUp() override { own_mounts_ = test::OwnMounts(); }
  void TearDown() override { StopServer(); }

  server::Settings SpillSettings() const {
    server::Settings settings = SmallSettings();
    settings.spill_dir = folder_.path();
    settings.spill_limit_bytes = 64 * kMiB;
    settings.tenant_quotas = {{"narrow", {.bytes = kBlockBytes, .sequences = 1}}};
    return settings;
  }
  void StartServer(server::Settings settings) {
    settings.slice_cache_bytes = 16 * kKiB;  // of 16 parts, each with room for one block
    ASSERT_NO_FATAL_FAILURE(Start(settings));
    sampler_ = StartThread("sampler", [this](const std::stop_token& stop) {
      while (!stop.stop_requested()) Sample();
    });
  }
  void StopServer() {
    if (server_ != nullptr) server_->Stop();
    if (sampler_.joinable()) {
      sampler_.request_stop();
      sampler_.join();
    }
    server_.reset();
  }
  void Sample() {
    const std::string text = Get(*server_, "/metrics");
    const std::lock_guard lock(mutex_);
    AddExposition(text, families_, values_);
  }
  // Whether any series of it had two values, or came with one that is not zero.
  bool Moved(const std::string& name) {
    const std::lock_guard lock(mutex_);
    for (auto at = values_.lower_bound(name + "|");
         at != values_.end() && at->first.rfind(name + "|", 0) == 0; ++at) {
      if (at->second.size() > 1) return true;
      if (families_[name].type != "gauge" && *at->second.begin() != "0") return true;
    }
    return false;
  }
  bool Eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 2000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  // More than RAM; a full arena refuses for as long as a block takes to be written.
  static bool Append(RawClient& client, uint64_t sequence, uint64_t tokens, int patience = 500) {
    for (uint64_t at = 0; at < tokens * kLayers; at += kBlockTokens) {
      const auto layer = static_cast<uint16_t>(at / tokens);
      const uint64_t first = at % tokens;
      Status status;
      for (int tries = 0; tries < patience; ++tries) {
        status = client
                     .Append(sequence, layer, first, kBlockTokens, kKvHeads, kRowBytes,
                             TestRows(sequence, layer, first, kBlockTokens))
                     .status;
        if (status.code() != StatusCode::kResourceExhausted) break;
        std::this_thread::sleep_for(RetryAfter(status).value_or(std::chrono::milliseconds(5)));
      }
      if (!status.ok()) return false;
    }
    return true;
  }
  static void Seal(RawClient& client, uint64_t sequence) {
    v1::SealSequenceRequest seal;
    seal.set_sequence(sequence);
    v1::SealSequenceResponse sealed;
    const grpc::Status status = client.stub().SealSequence(client.Context().get(), seal, &sealed);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }

  void Serve();
  void SpillAndSeal();
  void DamageBlocks();
  void DamageRecords();
  void ReadBack();
  void Outlive();
  void Cache();
  void FillDisk();
  void Renew();

  const test::TempFolder folder_;
  Status own_mounts_;
  std::mutex mutex_;
  Families families_;
  std::map<std::string, std::set<std::string>> values_;  // by "family|series"
  std::jthread sampler_;
};

// One of every request, good and bad.
void MetricsDocTest::Serve() {
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  const std::vector<uint32_t> prompt(4 * kBlockTokens, 1);
  const uint64_t sequence = Open(*client, prompt);
  ASSERT_TRUE(Append(*client, sequence, prompt.size()));
  Open(*client, prompt);  // finds the prefix
  v1::RegisterProfileRequest profile;
  profile.set_profile_json(TestProfile()->ToJson());
  v1::RegisterProfileResponse registered;
  ASSERT_TRUE(client->stub().RegisterProfile(client->Context().get(), profile, &registered).ok());
  for (int twice = 0; twice < 2; ++twice) {
    ASSERT_TRUE(client->Slices(sequence, registered.profile_id(), 0, 0, 64).status.ok());
  }
  const uint64_t longer = Open(*client);
  ASSERT_TRUE(Append(*client, longer, 32 * kBlockTokens));
  ASSERT_TRUE(client->Slices(longer, registered.profile_id(), 0, 0, 32 * kBlockTokens).status.ok());
  ASSERT_TRUE(client->Read(sequence, 0, 0, 64).status.ok());
  EXPECT_FALSE(client->Read(sequence + 100, 0, 0, 64).status.ok());
  std::vector<uint32_t> tokens(64);
  for (uint32_t i = 0; i < tokens.size(); ++i) tokens[i] = i;
  // Replies are in staging until they are taken.
  const auto fetch = [&] {
    return client->Fetch(
        [&](transport::FetchBuilder& builder) {
          for (uint16_t layer = 0; layer < kLayers; ++layer) {
            for (uint16_t head = 0; head < kKvHeads; ++head) {
              builder.Add(sequence, layer, head, tokens);
            }
          }
        },
        kRowBytes);
  };
  EXPECT_TRUE(
      Eventually([&] { return fetch().status.ok() && Moved("passband_staging_used_bytes"); }));
  client->Send(static_cast<transport::MessageType>(1), Bytes(8), Bytes(8));  // of nobody
  const auto narrow = Client("narrow");
  ASSERT_TRUE(narrow->Hello().ok());
  EXPECT_FALSE(Append(*narrow, Open(*narrow), 4 * kBlockTokens, 1));
  v1::DisconnectResponse ended;
  EXPECT_TRUE(narrow->stub().Disconnect(narrow->Context().get(), {}, &ended).ok());
}

// Eight times RAM, of which the disk's limit holds half; the last ones are sealed, one is closed.
void MetricsDocTest::SpillAndSeal() {
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  const uint64_t tokens = 8 * kMiB / kTokenBytes;
  std::vector<uint64_t> sequences;
  for (int i = 0; i < 16; ++i) {
    sequences.push_back(Open(*client, std::vector<uint32_t>(kBlockTokens, i + 2)));
    ASSERT_TRUE(Append(*client, sequences.back(), tokens));
  }
  for (size_t i = 12; i < sequences.size(); ++i) {
    for (uint64_t first = 0; first < tokens; first += kBlockTokens) {
      client->Read(sequences[i], 0, first, kBlockTokens);
    }
  }
  for (size_t i = 14; i < sequences.size(); ++i) Seal(*client, sequences[i]);
  v1::CloseSequenceRequest close;
  close.set_sequence(sequences.back());
  v1::CloseSequenceResponse closed;
  EXPECT_TRUE(client->stub().CloseSequence(client->Context().get(), close, &closed).ok());
}

// Blocks with a wrong bit in every 2 KiB.
void MetricsDocTest::DamageBlocks() {
  for (const auto& file : std::filesystem::directory_iterator(folder_.path())) {
    if (file.path().extension() != ".sst") continue;
    constexpr uint64_t kStep = 2048;
    std::fstream bytes(file.path(), std::ios::in | std::ios::out | std::ios::binary);
    for (uint64_t at = kStep / 4; at + 2 * kStep < file.file_size(); at += kStep) {
      bytes.seekg(static_cast<std::streamoff>(at));
      const int byte = bytes.get();
      bytes.seekp(static_cast<std::streamoff>(at));
      bytes.put(static_cast<char>(byte ^ 4));
    }
  }
}

// A record that means nothing, so that sequences lack rows.
void MetricsDocTest::DamageRecords() {
  const auto spill = SpillDatabase::Open(
      {.directory = folder_.path(), .capacity_bytes = 64 * kMiB, .generation_bytes = 16 * kMiB});
  ASSERT_TRUE(spill.ok()) << spill.status();
  std::vector<std::string> columns;
  ASSERT_TRUE(
      (*spill)
          ->catalog()
          .ForEach(RecordKind::kColumn,
                   [&](std::string_view key, std::string_view) { columns.emplace_back(key); })
          .ok());
  ASSERT_GT(columns.size(), 10U);
  CatalogBatch batch;
  batch.Put(RecordKind::kColumn, columns.back(), "nonsense");
  ASSERT_TRUE((*spill)->catalog().Write(batch).ok());
}

void MetricsDocTest::ReadBack() {
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  v1::ListSequencesResponse all;
  ASSERT_TRUE(client->stub().ListSequences(client->Context().get(), {}, &all).ok());
  uint64_t lost = 0;
  for (const v1::Sequence& sequence : all.sequences()) {
    for (uint64_t first = 0; first < sequence.committed_tokens(); first += kBlockTokens) {
      const RawReply reply = client->Read(sequence.id(), 0, first, kBlockTokens);
      lost += reply.status.code() == StatusCode::kDataLoss ? 1 : 0;
    }
  }
  EXPECT_GT(lost, 0U);
}

// What is pinned, and what nobody uses.
void MetricsDocTest::Outlive() {
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  const uint64_t pinned = Open(*client);
  ASSERT_TRUE(Append(*client, pinned, kBlockTokens));
  Seal(*client, pinned);
  v1::PinSequenceRequest pin;
  pin.set_sequence(pinned);
  v1::PinSequenceResponse done;
  const grpc::Status status = client->stub().PinSequence(client->Context().get(), pin, &done);
  ASSERT_TRUE(status.ok()) << status.error_message();
  v1::OpenSequenceRequest open;
  open.set_model(TestModel().fingerprint());
  open.set_ttl_ms(1);
  v1::OpenSequenceResponse opened;
  ASSERT_TRUE(client->stub().OpenSequence(client->Context().get(), open, &opened).ok());
  EXPECT_TRUE(Eventually([this] {
    return Moved("passband_sequences_reaped_total") && Moved("passband_pinned_bytes");
  }));
  v1::CloseSequenceRequest close;
  close.set_sequence(pinned);
  v1::CloseSequenceResponse closed;
  EXPECT_TRUE(client->stub().CloseSequence(client->Context().get(), close, &closed).ok());
}

// Without a disk, prefixes of closed sequences stay until their RAM is needed.
void MetricsDocTest::Cache() {
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  const std::vector<uint32_t> prompt(16 * kBlockTokens, 7);
  v1::CloseSequenceRequest close;
  close.set_sequence(Open(*client, prompt));
  ASSERT_TRUE(Append(*client, close.sequence(), prompt.size()));
  v1::CloseSequenceResponse closed;
  ASSERT_TRUE(client->stub().CloseSequence(client->Context().get(), close, &closed).ok());
  Append(*client, Open(*client), 32 * kMiB / kTokenBytes, 1);
}

// On a device of its own, which is full.
void MetricsDocTest::FillDisk() {
  const test::TempFolder folder;
  const auto device = test::SmallDisk::Mount(folder.path(), 24 * kMiB);
  ASSERT_TRUE(device.ok()) << device.status();
  server::Settings settings = SpillSettings();
  settings.spill_dir = folder / "spill";
  ASSERT_NO_FATAL_FAILURE(StartServer(settings));
  ASSERT_TRUE((*device)->Fill().ok());
  const auto client = Client("a");
  ASSERT_TRUE(client->Hello().ok());
  Append(*client, Open(*client), 15 * kMiB / kTokenBytes, 1);
  EXPECT_TRUE(Eventually([this] { return Moved("passband_spill_healthy"); }));
  StopServer();
}

// A certificate that cannot be used, then one that is valid for longer.
void MetricsDocTest::Renew() {
  const test::TempFolder folder;
  const test::CertificateAuthority authority(folder.path(), "authority");
  const TlsFiles next = authority.Issue(
      "next", {.common_name = "b", .loopback = true, .valid_from_days = -2, .valid_to_days = 60});
  server::Settings settings = SmallSettings();
  settings.tls = authority.Issue("server", {.common_name = "a", .loopback = true});
  ASSERT_NO_FATAL_FAILURE(StartServer(settings));
  std::filesystem::rename(next.key, settings.tls.key);
  EXPECT_TRUE(Eventually([this] { return Moved("passband_tls_healthy"); }));
  std::filesystem::rename(next.certificate, settings.tls.certificate);
  EXPECT_TRUE(
      Eventually([this] { return Moved("passband_tls_certificate_end_timestamp_seconds"); }));
  StopServer();
}

// A full disk takes a device of its own, which takes root.
bool NeedsAFullDisk(std::string_view name) {
  return name == "passband_spill_healthy" || name == "passband_spill_errors_total";
}

TEST_F(MetricsDocTest, PageAndExpositionAgreeAndEveryMetricMoves) {
  server::Settings slow_disk = SpillSettings();
  slow_disk.spill_rate = 16 * kMiB;
  ASSERT_NO_FATAL_FAILURE(StartServer(slow_disk));
  Serve();
  SpillAndSeal();
  StopServer();
  DamageBlocks();
  ASSERT_NO_FATAL_FAILURE(StartServer(SpillSettings()));
  ReadBack();
  StopServer();
  DamageRecords();
  ASSERT_NO_FATAL_FAILURE(StartServer(SpillSettings()));
  StopServer();
  server::Settings in_ram = SmallSettings();
  in_ram.pin_limit_bytes = 4 * kMiB;
  ASSERT_NO_FATAL_FAILURE(StartServer(in_ram));
  Outlive();
  Cache();
  StopServer();
  Renew();
  if (own_mounts_.ok()) FillDisk();

  std::set<std::string> fixed;
  const Families documented = Documented(fixed);
  for (const auto& [name, family] : families_) {
    const auto found = documented.find(name);
    ASSERT_NE(found, documented.end()) << name << " is not in docs/metrics.md";
    EXPECT_EQ(Describe(found->second), Describe(family)) << name;
  }
  for (const auto& [name, family] : documented) {
    EXPECT_TRUE(families_.contains(name)) << name << " is documented, and not exposed";
    if (!own_mounts_.ok() && NeedsAFullDisk(name)) continue;
    EXPECT_NE(Moved(name), fixed.contains(name))
        << name << (fixed.contains(name) ? " moved" : " stood still");
  }
}

}  // namespace
}  // namespace passband::testing
