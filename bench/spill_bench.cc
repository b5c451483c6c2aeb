// spill_bench [--directory D] [--bytes N] ...: the tier below RAM beside the device itself.
//
// In each round: the device written past the page cache, the tier written (Put until
// Flush), random reads of both, then the database closed and opened again. The rounds
// repeat all of it, so that both meet the same neighbours; every byte that the tier
// answers with is compared. Prints a table and, last, a line of JSON.
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/thread.h"
#include "base/units.h"
#include "bench/percentile.h"
#include "bench/raw_file.h"
#include "kvstore/spill_database.h"
#include "nlohmann/json.hpp"

namespace passband::bench {
namespace {

// The columns: the device from memory in pages of either size, and the tier.
constexpr char kSmallPages[] = "device, 4 KiB pages";
constexpr char kHugePages[] = "device, huge pages";
constexpr char kTier[] = "tier";

struct Options {
  std::string directory = ".";
  uint64_t bytes = 2 * kGiB;
  uint64_t block_bytes = 256 * kKiB;
  uint32_t planes = 8;
  uint64_t chunk_bytes = 8 * kMiB;  // Of the device's own writes.
  uint64_t memtable_bytes = SpillDatabase::Options{}.memtable_bytes;
  uint32_t memtables = SpillDatabase::Options{}.memtables;
  uint32_t rounds = 3;
  uint32_t reads = 1000;  // In a round, of each kind.
};

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double CpuSeconds() {
  rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Write {
  double bytes_per_second = 0;
  double cpu_seconds_per_gb = 0;
};

struct Reads {
  double p50 = 0;
  double p99 = 0;
  double bytes_per_second = 0;
};

// By name, one value a round.
struct Results {
  std::map<std::string, std::vector<Write>> writes;
  std::map<std::string, std::vector<Reads>> reads;
  std::vector<double> close_seconds;
  std::vector<double> open_seconds;
  uint64_t checked_bytes = 0;
};

// Content that tells blocks apart, without the cost of making it: two words of random
// bytes that every block shares are the block's own.
class Content {
 public:
  explicit Content(uint64_t block_bytes) : block_(block_bytes, true) {
    std::mt19937_64 random(1);
    for (std::byte& b : block_.bytes()) b = static_cast<std::byte>(random());
  }
  std::span<const std::byte> Block(uint64_t number, uint32_t planes) {
    const size_t plane = block_.bytes().size() / planes;
    for (uint32_t i = 0; i < planes; ++i) Stamp(block_.bytes().subspan(i * plane, plane), number);
    return block_.bytes();
  }
  bool Same(uint64_t number, uint32_t planes, PlaneSet wanted,
            std::span<const std::byte> got) const {
    const size_t plane = got.size() / planes;
    for (uint32_t i = 0; i < planes; ++i) {
      if ((wanted >> i & 1) == 0) continue;
      const auto mine = block_.bytes().subspan(i * plane, plane);
      const auto theirs = got.subspan(i * plane, plane);
      uint64_t stamp = 0;
      std::memcpy(&stamp, theirs.data(), sizeof(stamp));
      if (stamp != number) return false;
      if (std::memcmp(mine.data() + 8, theirs.data() + 8, plane - 8) != 0) return false;
    }
    return true;
  }

 private:
  static void Stamp(std::span<std::byte> plane, uint64_t number) {
    std::memcpy(plane.data(), &number, sizeof(number));
  }
  const SectorBuffer block_;
};

class SpillBench {
 public:
  SpillBench(const Options& options, Results& results)
      : options_(options), results_(results), content_(options.block_bytes) {}

  Status Round() {
    PASSBAND_RETURN_IF_ERROR(WriteRaw(false));
    PASSBAND_RETURN_IF_ERROR(WriteRaw(true));
    PASSBAND_RETURN_IF_ERROR(OpenSpill());
    PASSBAND_RETURN_IF_ERROR(WriteTier());
    PASSBAND_RETURN_IF_ERROR(Reopen());
    for (const uint32_t threads : {1, 4}) {
      for (const uint32_t planes : {uint32_t{1}, options_.planes}) {
        PASSBAND_RETURN_IF_ERROR(ReadRaw(planes, threads, false));
        PASSBAND_RETURN_IF_ERROR(ReadRaw(planes, threads, true));
        PASSBAND_RETURN_IF_ERROR(ReadTier(planes, threads));
      }
    }
    spill_.reset();
    std::filesystem::remove_all(Folder());
    raw_.reset();
    return OkStatus();
  }

 private:
  uint64_t blocks() const { return options_.bytes / options_.block_bytes; }
  std::string Folder() const { return options_.directory + "/spill_bench.db"; }

  // The device by itself, from memory in pages of either size; the file stays for reads.
  Status WriteRaw(bool huge_pages) {
    raw_.reset();
    PASSBAND_ASSIGN_OR_RETURN(raw_, RawFile::Create(options_.directory + "/spill_bench.raw"));
    const SectorBuffer chunk(options_.chunk_bytes, huge_pages);
    std::mt19937_64 random(1);
    for (std::byte& b : chunk.bytes()) b = static_cast<std::byte>(random());
    return TimeWrite(huge_pages ? kHugePages : kSmallPages, [&]() -> Status {
      while (raw_->size() < options_.bytes) PASSBAND_RETURN_IF_ERROR(raw_->Append(chunk.bytes()));
      return raw_->Sync();
    });
  }

  Status WriteTier() {
    addresses_.clear();
    return TimeWrite(kTier, [&]() -> Status {
      for (uint64_t i = 0; i < blocks(); ++i) {
        PASSBAND_ASSIGN_OR_RETURN(
            const BlockAddress address,
            spill_->tier().Put(content_.Block(i, options_.planes), options_.planes));
        addresses_.push_back(address);
      }
      return spill_->tier().Flush();
    });
  }

  Status TimeWrite(const std::string& name, const std::function<Status()>& write) {
    const auto start = std::chrono::steady_clock::now();
    const double cpu = CpuSeconds();
    PASSBAND_RETURN_IF_ERROR(write());
    const auto bytes = static_cast<double>(options_.bytes);
    results_.writes[name].push_back(
        {bytes / SecondsSince(start), (CpuSeconds() - cpu) / (bytes * 1e-9)});
    return OkStatus();
  }

  Status OpenSpill() {
    std::filesystem::create_directories(Folder());
    PASSBAND_ASSIGN_OR_RETURN(spill_,
                              SpillDatabase::Open({.directory = Folder(),
                                                   .capacity_bytes = options_.bytes * 5,
                                                   .memtable_bytes = options_.memtable_bytes,
                                                   .memtables = options_.memtables}));
    return OkStatus();
  }

  Status Reopen() {
    auto start = std::chrono::steady_clock::now();
    spill_.reset();
    results_.close_seconds.push_back(SecondsSince(start));
    start = std::chrono::steady_clock::now();
    PASSBAND_RETURN_IF_ERROR(OpenSpill());
    for (const BlockAddress& address : addresses_) spill_->tier().Claim(address);
    PASSBAND_RETURN_IF_ERROR(spill_->tier().DropUnclaimed());
    results_.open_seconds.push_back(SecondsSince(start));
    return OkStatus();
  }

  Status ReadRaw(uint32_t planes, uint32_t threads, bool huge_pages) {
    const uint64_t bytes = options_.block_bytes / options_.planes * planes;
    return TimeReads(
        huge_pages ? kHugePages : kSmallPages, planes, threads, [&](std::mt19937_64& random) {
          return [&, buffer = std::make_shared<SectorBuffer>(bytes, huge_pages)](double& seconds) {
            const uint64_t offset = random() % (raw_->size() / bytes) * bytes;
            const auto begin = std::chrono::steady_clock::now();
            const Status status = raw_->Read(offset, buffer->bytes());
            seconds = SecondsSince(begin);
            return status;
          };
        });
  }

  Status ReadTier(uint32_t planes, uint32_t threads) {
    return TimeReads(kTier, planes, threads, [&](std::mt19937_64& random) {
      return [&, planes,
              block = std::vector<std::byte>(options_.block_bytes)](double& seconds) mutable {
        const uint64_t number = random() % addresses_.size();
        const PlaneSet wanted =
            planes == 1 ? PlaneSet{1} << random() % options_.planes : (PlaneSet{1} << planes) - 1;
        const auto begin = std::chrono::steady_clock::now();
        auto hit = spill_->tier().Get(addresses_[number], options_.planes, wanted, block);
        seconds = SecondsSince(begin);
        if (hit.ok() && (!*hit || !content_.Same(number, options_.planes, wanted, block))) {
          hit = Error(StatusCode::kDataLoss, "block {}: {}", number,
                      *hit ? "other bytes" : "not there");
        }
        return hit.status();
      };
    });
  }

  // `make` gives each thread a function that reads once and says how long that took.
  template <typename Make>
  Status TimeReads(const std::string& name, uint32_t planes, uint32_t threads, const Make& make) {
    const uint64_t bytes = options_.block_bytes / options_.planes * planes;
    const uint32_t count = std::max<uint32_t>(1, options_.reads / threads);
    std::vector<std::vector<double>> seconds(threads);
    std::vector<Status> failed(threads);
    {
      std::vector<std::jthread> readers;
      for (uint32_t i = 0; i < threads; ++i) {
        readers.push_back(StartThread("pb-read", [&, i](const std::stop_token&) {
          std::mt19937_64 random(i + ++seed_ * 100);
          auto read = make(random);
          for (uint32_t n = 0; n < count && failed[i].ok(); ++n) {
            failed[i] = read(seconds[i].emplace_back());
          }
        }));
      }
    }
    for (const Status& status : failed) PASSBAND_RETURN_IF_ERROR(status);
    std::vector<double> all;
    for (const auto& list : seconds) all.insert(all.end(), list.begin(), list.end());
    const double total = std::accumulate(all.begin(), all.end(), 0.0) / threads;
    results_.reads[fmt::format("{} KiB, {} at a time, {}", bytes / kKiB, threads, name)].push_back(
        {Percentile(all, 0.5), Percentile(all, 0.99),
         static_cast<double>(bytes * all.size()) / total});
    if (name == kTier) results_.checked_bytes += bytes * all.size();
    return OkStatus();
  }

  const Options& options_;
  Results& results_;
  Content content_;
  std::unique_ptr<RawFile> raw_;
  std::unique_ptr<SpillDatabase> spill_;
  std::vector<BlockAddress> addresses_;
  std::atomic<uint64_t> seed_{0};
};

template <typename T>
double Median(const std::vector<T>& values, double T::*field) {
  std::vector<double> list;
  for (const T& value : values) list.push_back(value.*field);
  return Percentile(list, 0.5);
}

void PrintTable(const Results& results) {
  std::printf("%-46s %10s %10s %10s %12s\n", "medians of rounds", "p50 us", "p99 us", "MB/s",
              "CPU s per GB");
  for (const auto& [name, writes] : results.writes) {
    std::printf("%-46s %10s %10s %10.0f %12.2f\n", ("write, " + name).c_str(), "", "",
                Median(writes, &Write::bytes_per_second) * 1e-6,
                Median(writes, &Write::cpu_seconds_per_gb));
  }
  for (const auto& [name, reads] : results.reads) {
    std::printf("%-46s %10.0f %10.0f %10.0f\n", ("read " + name).c_str(),
                Median(reads, &Reads::p50) * 1e6, Median(reads, &Reads::p99) * 1e6,
                Median(reads, &Reads::bytes_per_second) * 1e-6);
  }
  std::printf("close %.3f s, open %.3f s\n", Percentile(results.close_seconds, 0.5),
              Percentile(results.open_seconds, 0.5));
}

void PrintJson(const Results& results, const Options& options) {
  nlohmann::json out = {{"bytes", options.bytes},
                        {"block_bytes", options.block_bytes},
                        {"planes", options.planes},
                        {"rounds", options.rounds},
                        {"checked_bytes", results.checked_bytes},
                        {"close_s", results.close_seconds},
                        {"open_s", results.open_seconds}};
  for (const auto& [name, writes] : results.writes) {
    for (const Write& write : writes) {
      out["writes"][name].push_back({{"mb_per_s", write.bytes_per_second * 1e-6},
                                     {"cpu_s_per_gb", write.cpu_seconds_per_gb}});
    }
  }
  for (const auto& [name, reads] : results.reads) {
    for (const Reads& read : reads) {
      out["reads"][name].push_back({{"p50_us", read.p50 * 1e6},
                                    {"p99_us", read.p99 * 1e6},
                                    {"mb_per_s", read.bytes_per_second * 1e-6}});
    }
  }
  std::printf("%s\n", out.dump().c_str());
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("The tier below RAM beside the device itself");
  app.add_option("--directory", options.directory, "On the device to measure");
  app.add_option("--bytes", options.bytes, "Written in a round, twice")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--block", options.block_bytes, "Bytes of a block")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--planes", options.planes, "Planes of a block")->check(CLI::Range(1, 64));
  app.add_option("--chunk", options.chunk_bytes, "Bytes of a write to the device itself")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--memtable", options.memtable_bytes, "Bytes of a memtable")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--memtables", options.memtables, "Memtables")->check(CLI::Range(2, 64));
  app.add_option("--rounds", options.rounds, "Rounds")->check(CLI::Range(1, 1000));
  app.add_option("--reads", options.reads, "Reads of a kind in a round")
      ->check(CLI::Range(1, 1000000));
  CLI11_PARSE(app, argc, argv);
  if (options.block_bytes % (options.planes * kSector) != 0 || options.chunk_bytes % kSector != 0 ||
      options.bytes % options.block_bytes != 0) {
    std::fprintf(stderr,
                 "spill_bench: planes and chunks are multiples of %zu bytes, --bytes of "
                 "blocks\n",
                 kSector);
    return 2;
  }
  Results results;
  for (uint32_t i = 0; i < options.rounds; ++i) {
    if (const Status status = SpillBench(options, results).Round(); !status.ok()) {
      std::fprintf(stderr, "spill_bench: %s\n", status.ToString().c_str());
      return 1;
    }
  }
  PrintTable(results);
  PrintJson(results, options);
  return 0;
}

}  // namespace
}  // namespace passband::bench

int main(int argc, char** argv) { return passband::bench::Main(argc, argv); }
