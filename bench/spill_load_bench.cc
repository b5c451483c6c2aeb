// spill_load_bench [--directory D] [--ram N] ...: a store with more rows than RAM, at work.
//
// In each round: fetches of rows in RAM alone, beside appends that stay in RAM, and beside appends
// of several times RAM that spill; what those appends waited for; and rows fetched back from disk,
// beside the device itself reading as many bytes. Every row fetched is compared. Prints a table
// and, last, a line of JSON.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/thread.h"
#include "base/units.h"
#include "bench/percentile.h"
#include "bench/raw_file.h"
#include "kvstore/spill_database.h"
#include "kvstore/store.h"
#include "nlohmann/json.hpp"

namespace passband::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr KvShape kShape{.layers = 2, .kv_heads = 8, .row_bytes = 512};  // blocks of 256 KiB
constexpr uint64_t kTokens = 8192;                                       // of a sequence
constexpr uint64_t kPlaneBytes = kBlockTokens * kShape.row_bytes;
constexpr char kTenant[] = "bench";

struct Options {
  std::string directory = ".";
  uint64_t ram_bytes = 512 * kMiB;
  uint32_t times = 4;  // RAM, appended
  uint32_t rounds = 3;
  uint32_t reads = 300;
  double seconds = 3;  // of fetches without spilling
};

double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// By name: values of all rounds; of times, one for each round.
using Figures = std::map<std::string, std::vector<double>>;

class Rows {
 public:
  Rows() : bytes_(kShape.block_bytes()) {
    std::mt19937_64 random(1);
    for (std::byte& b : bytes_) b = static_cast<std::byte>(random());
  }
  // A block whose rows tell where they belong.
  const std::byte* Block(SequenceId id, uint32_t layer, uint64_t first) {
    for (uint32_t row = 0; row < kShape.kv_heads * kBlockTokens; ++row) {
      const uint64_t stamp = Stamp(id, layer, row / kBlockTokens, first + row % kBlockTokens);
      std::memcpy(bytes_.data() + size_t{row} * kShape.row_bytes, &stamp, sizeof(stamp));
    }
    return bytes_.data();
  }
  bool Same(const std::byte* row, SequenceId id, uint32_t layer, uint64_t head,
            uint64_t token) const {
    const uint64_t stamp = Stamp(id, layer, head, token);
    const size_t at = (head * kBlockTokens + token % kBlockTokens) * kShape.row_bytes;
    return std::memcmp(row, &stamp, sizeof(stamp)) == 0 &&
           std::memcmp(row + 8, bytes_.data() + at + 8, kShape.row_bytes - 8) == 0;
  }

 private:
  static uint64_t Stamp(SequenceId id, uint64_t layer, uint64_t head, uint64_t token) {
    return (id.value() << 32) ^ (layer << 28) ^ (head << 24) ^ token;
  }
  std::vector<std::byte> bytes_;
};

// Appends, and what they waited for.
class Appender {
 public:
  explicit Appender(Store& store) : store_(store) {}

  StatusOr<SequenceId> Open() {
    PASSBAND_ASSIGN_OR_RETURN(
        const auto opened,
        store_.Open({.tenant = kTenant, .model = "m", .owner = OwnerId(1), .token_ids = {}}));
    return opened.id;
  }
  Status Fill(SequenceId id) {
    for (uint64_t first = 0; first < kTokens; first += kBlockTokens) {
      for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
        PASSBAND_RETURN_IF_ERROR(Append(id, layer, first));
      }
    }
    return OkStatus();
  }

  std::vector<double> calls;  // of BeginAppend, seconds
  std::vector<double> waits;  // until a block was there, with the pauses the store asked for
  uint64_t refusals = 0;
  uint64_t bytes = 0;

 private:
  Status Append(SequenceId id, uint32_t layer, uint64_t first) {
    const auto start = Clock::now();
    while (true) {
      const auto begin = Clock::now();
      auto slot = store_.BeginAppend(kTenant, id, layer, first, kBlockTokens);
      calls.push_back(Since(begin));
      if (slot.ok()) {
        waits.push_back(Since(start));
        slot->Scatter(rows_.Block(id, layer, first));
        bytes += slot->bytes();
        return slot->Commit();
      }
      const auto after = RetryAfter(slot.status());
      if (!after.has_value()) return slot.status();
      ++refusals;
      std::this_thread::sleep_for(*after);
    }
  }

  Store& store_;
  Rows rows_;
};

class LoadBench {
 public:
  LoadBench(const Options& options, Figures& figures) : options_(options), figures_(figures) {}
  ~LoadBench() {
    store_.reset();
    spill_.reset();
    std::filesystem::remove_all(Folder());
  }

  Status Round() {
    PASSBAND_RETURN_IF_ERROR(WriteRaw());
    PASSBAND_RETURN_IF_ERROR(Start());
    Appender hot(*store_);
    PASSBAND_ASSIGN_OR_RETURN(hot_, hot.Open());
    PASSBAND_RETURN_IF_ERROR(hot.Fill(hot_));
    PASSBAND_RETURN_IF_ERROR(FetchAlone());
    PASSBAND_RETURN_IF_ERROR(FetchBesideAppends());
    PASSBAND_RETURN_IF_ERROR(FetchBesideSpilling());
    PASSBAND_RETURN_IF_ERROR(FetchSpilled("one plane (32 KiB)", 1, 1));
    PASSBAND_RETURN_IF_ERROR(FetchSpilled("a block (256 KiB)", 1, kShape.kv_heads));
    PASSBAND_RETURN_IF_ERROR(FetchSpilled("64 blocks, 1 plane each", 64, 1));
    PASSBAND_RETURN_IF_ERROR(FetchSpilled("16 whole blocks", 16, kShape.kv_heads));
    return OkStatus();
  }

  uint64_t checked_rows() const { return checked_rows_; }

 private:
  std::string Folder() const { return options_.directory + "/spill_load_bench.db"; }

  Status WriteRaw() {
    PASSBAND_ASSIGN_OR_RETURN(raw_, RawFile::Create(options_.directory + "/spill_load_bench.raw"));
    const SectorBuffer chunk(8 * kMiB, true);
    std::mt19937_64 random(1);
    for (std::byte& b : chunk.bytes()) b = static_cast<std::byte>(random());
    const auto start = Clock::now();
    const uint64_t bytes = options_.ram_bytes * options_.times;
    while (raw_->size() < bytes) PASSBAND_RETURN_IF_ERROR(raw_->Append(chunk.bytes()));
    PASSBAND_RETURN_IF_ERROR(raw_->Sync());
    Add("write MB/s, device", static_cast<double>(bytes) / Since(start) * 1e-6);
    return OkStatus();
  }

  Status Start() {
    std::filesystem::create_directories(Folder());
    PASSBAND_ASSIGN_OR_RETURN(
        spill_, SpillDatabase::Open({.directory = Folder(),
                                     .capacity_bytes = options_.ram_bytes * options_.times * 3}));
    PASSBAND_ASSIGN_OR_RETURN(store_, NewStore(&spill_->tier()));
    return OkStatus();
  }
  StatusOr<std::unique_ptr<Store>> NewStore(Tier* tier) const {
    Store::Options store;
    store.arena = {.bytes = options_.ram_bytes};
    store.tier = tier;
    PASSBAND_ASSIGN_OR_RETURN(auto made, Store::Create(store));
    PASSBAND_RETURN_IF_ERROR(
        made->RegisterModel({.fingerprint = "m", .name = "", .shape = kShape, .detail = {}}));
    return made;
  }

  // 2048 rows of the hot sequence, looked up and copied; until told to stop. Those that were not
  // all in RAM count apart.
  Status FetchHot(const std::string& name, const std::atomic<bool>& stop) {
    std::mt19937_64 random(++seed_);
    std::vector<double> seconds;
    std::vector<std::byte> copy(2048 * kShape.row_bytes);
    std::vector<std::vector<uint32_t>> tokens(kShape.kv_heads, std::vector<uint32_t>(256));
    PinnedRows rows;
    MissingBlocks missing;
    uint64_t misses = 0;
    uint64_t refused = 0;
    while (!stop.load()) {
      const auto layer = static_cast<uint32_t>(random() % kShape.layers);
      std::vector<RowGroup> groups;
      for (uint32_t head = 0; head < kShape.kv_heads; ++head) {
        for (uint32_t& token : tokens[head]) token = static_cast<uint32_t>(random() % kTokens);
        groups.push_back({hot_, layer, head, tokens[head]});
      }
      rows.Clear();
      const auto start = Clock::now();
      PASSBAND_RETURN_IF_ERROR(store_->Resolve(kTenant, groups, rows, missing));
      const bool hit = missing.empty();
      while (!hit) {
        const Status status = store_->Resolve(kTenant, groups, rows);
        if (status.ok()) break;
        if (!RetryAfter(status).has_value()) return status;
        refused += 1;
      }
      for (size_t i = 0; i < rows.rows().size(); ++i) {
        std::memcpy(copy.data() + i * kShape.row_bytes, rows.rows()[i], kShape.row_bytes);
      }
      if (hit) seconds.push_back(Since(start));
      misses += hit ? 0 : 1;
      for (size_t i = 0; i < rows.rows().size(); ++i) {
        const uint64_t head = i / 256;
        if (!content_.Same(copy.data() + i * kShape.row_bytes, hot_, layer, head,
                           tokens[head][i % 256])) {
          return Error(StatusCode::kDataLoss, "another row than asked for");
        }
      }
      checked_rows_ += rows.rows().size();
      // As a worker that computes in between.
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
    Add("RAM p50 us, " + name, Percentile(seconds, 0.5) * 1e6);
    Add("RAM p99 us, " + name, Percentile(seconds, 0.99) * 1e6);
    Add("RAM hits, " + name, static_cast<double>(seconds.size()));
    Add("fetches of hot rows that were refused for a time, " + name, static_cast<double>(refused));
    Add("fetches of hot rows that had to be restored, " + name, static_cast<double>(misses));
    return OkStatus();
  }

  // `work` runs beside the fetches, and ends them.
  Status FetchBeside(const std::string& name, const std::function<Status()>& work) {
    std::atomic<bool> stop{false};
    Status fetched;
    Status worked;
    {
      const std::jthread reader =
          StartThread("pb-read", [&](const std::stop_token&) { fetched = FetchHot(name, stop); });
      worked = work();
      stop.store(true);
    }
    PASSBAND_RETURN_IF_ERROR(worked);
    return fetched;
  }

  Status FetchAlone() {
    return FetchBeside("alone", [this] {
      std::this_thread::sleep_for(std::chrono::duration<double>(options_.seconds));
      return OkStatus();
    });
  }

  Status FetchBesideAppends() {
    PASSBAND_ASSIGN_OR_RETURN(const auto other, NewStore(nullptr));
    return FetchBeside("beside appends to RAM", [&]() -> Status {
      Appender appender(*other);
      const auto start = Clock::now();
      while (Since(start) < options_.seconds) {
        PASSBAND_ASSIGN_OR_RETURN(const SequenceId id, appender.Open());
        PASSBAND_RETURN_IF_ERROR(appender.Fill(id));
        PASSBAND_RETURN_IF_ERROR(other->Close(kTenant, id));
      }
      return OkStatus();
    });
  }

  Status FetchBesideSpilling() {
    Appender appender(*store_);
    const auto start = Clock::now();
    const Status status = FetchBeside("while spilling", [&]() -> Status {
      while (appender.bytes < options_.ram_bytes * options_.times) {
        PASSBAND_ASSIGN_OR_RETURN(const SequenceId id, appender.Open());
        PASSBAND_RETURN_IF_ERROR(appender.Fill(id));
        spilled_.push_back(id);
      }
      return OkStatus();
    });
    PASSBAND_RETURN_IF_ERROR(status);
    const double seconds = Since(start);
    const StoreStats stats = store_->Stats();
    Add("write MB/s, appends", static_cast<double>(appender.bytes) / seconds * 1e-6);
    Add("write MB/s, to the tier", static_cast<double>(stats.spill_written_bytes) / seconds * 1e-6);
    Add("allocation, longest stall ms", stats.allocation_stalls.longest_seconds * 1e3);
    Add("allocation, stalls", static_cast<double>(stats.allocation_stalls.count()));
    Add("allocation, longest call ms",
        *std::max_element(appender.calls.begin(), appender.calls.end()) * 1e3);
    Add("allocation, refusals", static_cast<double>(appender.refusals));
    Add("block wait p50 us, retries included", Percentile(appender.waits, 0.5) * 1e6);
    Add("block wait p99 ms, retries included", Percentile(appender.waits, 0.99) * 1e3);
    Add("block wait longest ms, retries included", Percentile(appender.waits, 1) * 1e3);
    return OkStatus();
  }

  // The first sequences are on the disk; each block is asked for once.
  Status FetchSpilled(const std::string& name, uint32_t blocks, uint32_t heads) {
    std::vector<double> seconds;
    std::vector<double> raw;
    std::mt19937_64 random(++seed_);
    const uint32_t reads = std::max<uint32_t>(10, options_.reads / blocks);
    for (uint32_t n = 0; n < reads; ++n) {
      PASSBAND_ASSIGN_OR_RETURN(const double took, FetchCold(random, blocks, heads));
      if (took > 0) seconds.push_back(took);
      PASSBAND_ASSIGN_OR_RETURN(raw.emplace_back(), ReadRaw(random, blocks, heads));
    }
    Add("disk p50 us, store, " + name, Percentile(seconds, 0.5) * 1e6);
    Add("disk p50 us, device, " + name, Percentile(raw, 0.5) * 1e6);
    return OkStatus();
  }

  // Zero when some of it was in RAM.
  StatusOr<double> FetchCold(std::mt19937_64& random, uint32_t blocks, uint32_t heads) {
    const SequenceId id = spilled_[random() % (spilled_.size() / 2)];
    const auto layer = static_cast<uint32_t>(random() % kShape.layers);
    const auto first_head = static_cast<uint32_t>(random() % (kShape.kv_heads - heads + 1));
    const uint64_t start_block = random() % (kTokens / kBlockTokens - blocks + 1);
    std::vector<uint32_t> tokens;  // one of each block
    for (uint32_t i = 0; i < blocks; ++i) {
      tokens.push_back(static_cast<uint32_t>((start_block + i) * kBlockTokens + random() % 64));
    }
    std::vector<RowGroup> groups;
    for (uint32_t head = first_head; head < first_head + heads; ++head) {
      groups.push_back({id, layer, head, tokens});
    }
    const StoreStats before = store_->Stats();
    PinnedRows rows;
    const auto begin = Clock::now();
    PASSBAND_RETURN_IF_ERROR(store_->Resolve(kTenant, groups, rows));
    const double took = Since(begin);
    for (size_t i = 0; i < rows.rows().size(); ++i) {
      if (!content_.Same(rows.rows()[i], id, layer, first_head + i / blocks, tokens[i % blocks])) {
        return Error(StatusCode::kDataLoss, "another row than asked for");
      }
    }
    checked_rows_ += rows.rows().size();
    const uint64_t planes = store_->Stats().restored_planes - before.restored_planes;
    return planes == uint64_t{blocks} * heads ? took : 0;
  }

  // As many reads of as many bytes, by as many threads as the store has.
  StatusOr<double> ReadRaw(std::mt19937_64& random, uint32_t blocks, uint32_t heads) {
    const uint64_t bytes = heads * kPlaneBytes;
    const uint32_t threads = std::min(blocks, Store::Options{}.restore_threads);
    std::vector<std::unique_ptr<SectorBuffer>> buffers;
    std::vector<Status> failed(threads);
    for (uint32_t i = 0; i < threads; ++i) {
      buffers.push_back(std::make_unique<SectorBuffer>(bytes, true));
    }
    const auto read = [&](uint32_t thread, uint64_t seed) {
      std::mt19937_64 own(seed);
      for (uint32_t i = thread; i < blocks && failed[thread].ok(); i += threads) {
        const uint64_t offset = own() % (raw_->size() / bytes) * bytes;
        failed[thread] = raw_->Read(offset, buffers[thread]->bytes());
      }
    };
    std::atomic<bool> go{false};
    std::vector<std::jthread> helpers;
    for (uint32_t i = 1; i < threads; ++i) {
      helpers.push_back(StartThread("pb-raw", [&, i, seed = random()](const std::stop_token&) {
        go.wait(false);
        read(i, seed);
      }));
    }
    const uint64_t seed = random();
    if (threads > 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const auto begin = Clock::now();
    go.store(true);
    go.notify_all();
    read(0, seed);
    helpers.clear();
    const double took = Since(begin);
    for (const Status& status : failed) PASSBAND_RETURN_IF_ERROR(status);
    return took;
  }

  void Add(const std::string& name, double value) { figures_[name].push_back(value); }

  const Options& options_;
  Figures& figures_;
  Rows content_;
  std::unique_ptr<RawFile> raw_;
  std::unique_ptr<SpillDatabase> spill_;
  std::unique_ptr<Store> store_;
  SequenceId hot_;
  std::vector<SequenceId> spilled_;
  uint64_t seed_ = 0;
  std::atomic<uint64_t> checked_rows_{0};
};

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("A store with more rows than RAM, at work");
  app.add_option("--directory", options.directory, "On the device to measure");
  app.add_option("--ram", options.ram_bytes, "RAM of the store")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--times", options.times, "Times RAM, appended")->check(CLI::Range(2, 64));
  app.add_option("--rounds", options.rounds, "Rounds")->check(CLI::Range(1, 1000));
  app.add_option("--reads", options.reads, "Fetches from the disk, of a kind, in a round")
      ->check(CLI::Range(10, 100000));
  app.add_option("--seconds", options.seconds, "Of fetches without spilling")
      ->check(CLI::Range(0.1, 600.0));
  CLI11_PARSE(app, argc, argv);
  if (options.ram_bytes < 256 * kMiB) {
    std::fprintf(stderr, "spill_load_bench: --ram of 256 MiB at least\n");
    return 2;
  }
  Figures figures;
  uint64_t checked = 0;
  for (uint32_t i = 0; i < options.rounds; ++i) {
    LoadBench bench(options, figures);
    if (const Status status = bench.Round(); !status.ok()) {
      std::fprintf(stderr, "spill_load_bench: %s\n", status.ToString().c_str());
      return 1;
    }
    checked += bench.checked_rows();
  }
  std::printf("%-52s %12s %12s %12s\n", "of rounds", "least", "median", "most");
  for (const auto& [name, values] : figures) {
    std::printf("%-52s %12.1f %12.1f %12.1f\n", name.c_str(), Percentile(values, 0),
                Percentile(values, 0.5), Percentile(values, 1));
  }
  nlohmann::json out = {{"ram_bytes", options.ram_bytes},
                        {"times", options.times},
                        {"checked_rows", checked},
                        {"figures", figures}};
  std::printf("%s\n", out.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace passband::bench

int main(int argc, char** argv) { return passband::bench::Main(argc, argv); }
