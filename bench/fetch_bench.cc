// fetch_bench [--json] [--rounds N] [--requests N]: what a fetch of 2048 scattered rows
// costs through the product, and how much of that is the product's.
//
// A real passband-server on one core holds 1 GiB of rows; a worker on another fetches 256
// random rows of each of the 8 kv heads of a random layer through RemoteService. The floor
// is bench/raw_fetch: the same rows, gathered and sent between two bare UCX peers. Rounds
// of the two alternate, so that both meet the same neighbours; the ratio is the median of
// the rounds' ratios. grpc and mtls fetch over gRPC, without and with mutual TLS; their
// floor is UCX's over TCP.
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "base/units.h"
#include "bench/percentile.h"
#include "bench/raw_fetch.h"
#include "nlohmann/json.hpp"
#include "sdk/remote_service.h"
#include "tests/support/certificates.h"
#include "tests/support/server_process.h"

namespace passband::bench {
namespace {

constexpr uint32_t kLayers = 32;
constexpr uint32_t kKvHeads = 8;
constexpr uint32_t kRowBytes = 512;
constexpr uint32_t kBlockTokens = 64;
constexpr uint32_t kCheckEvery = 10;
constexpr int kServerCpu = 0;
constexpr int kClientCpu = 1;

struct Options {
  uint32_t rounds = 7;
  uint32_t requests = 500;
  uint32_t rows = 2048;
  uint32_t tokens = 8192;  // 1 GiB
  bool json = false;
};

// Each row starts and ends with the number of its place.
uint64_t Mark(uint32_t layer, uint32_t head, uint32_t token) {
  return (uint64_t{layer} << 48) | (uint64_t{head} << 32) | token;
}

ModelInfo BenchModel() {
  return {.fingerprint = {std::string(64, 'b'), std::string(64, 'e')},
          .name = "bench",
          .layers = kLayers,
          .query_heads = 32,
          .kv_heads = kKvHeads,
          .head = {}};
}

// The worker: connects, fills the service, then measures a round for each byte that it
// reads, and writes the seconds of its requests.
class Worker {
 public:
  Worker(const Options& options, RemoteOptions remote)
      : options_(options), remote_(std::move(remote)) {}

  Status Run(int commands, int results) {
    PASSBAND_ASSIGN_OR_RETURN(service_, RemoteService::Connect(remote_));
    PASSBAND_RETURN_IF_ERROR(service_->RegisterModel(BenchModel()));
    PASSBAND_ASSIGN_OR_RETURN(
        const OpenedSequence opened,
        service_->Open({.model = BenchModel().fingerprint.text(), .token_ids = {}}));
    id_ = opened.id;
    PASSBAND_RETURN_IF_ERROR(Fill());
    PASSBAND_RETURN_IF_ERROR(Round().status());  // Warm: pages of landing memory, lanes.
    char command = 0;
    if (::write(results, &command, 1) != 1) return OkStatus();
    while (::read(commands, &command, 1) == 1) {
      PASSBAND_ASSIGN_OR_RETURN(const std::vector<double> seconds, Round());
      const size_t bytes = seconds.size() * sizeof(double);
      if (::write(results, seconds.data(), bytes) != static_cast<ssize_t>(bytes)) break;
    }
    return OkStatus();
  }

 private:
  Status Fill() {
    std::vector<std::byte> rows(size_t{kKvHeads} * kBlockTokens * kRowBytes);
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      for (uint32_t first = 0; first < options_.tokens; first += kBlockTokens) {
        std::byte* at = rows.data();
        for (uint32_t head = 0; head < kKvHeads; ++head) {
          for (uint32_t token = first; token < first + kBlockTokens; ++token, at += kRowBytes) {
            const uint64_t mark = Mark(layer, head, token);
            std::memcpy(at, &mark, sizeof(mark));
            std::memcpy(at + kRowBytes - sizeof(mark), &mark, sizeof(mark));
          }
        }
        PASSBAND_RETURN_IF_ERROR(service_->Append({id_, layer, first, kBlockTokens, rows}));
      }
    }
    return service_->Flush(id_);
  }

  StatusOr<std::vector<double>> Round() {
    std::vector<double> out;
    const uint32_t per_head = options_.rows / kKvHeads;
    std::vector<uint32_t> tokens(per_head * kKvHeads);
    std::vector<FetchGroup> groups(kKvHeads);
    for (uint32_t i = 0; i < options_.requests; ++i) {
      const auto layer = static_cast<uint32_t>(random_() % kLayers);
      for (uint32_t& token : tokens) token = static_cast<uint32_t>(random_() % options_.tokens);
      for (uint32_t head = 0; head < kKvHeads; ++head) {
        groups[head] = {id_, layer, head, std::span(tokens).subspan(head * per_head, per_head)};
      }
      const auto start = std::chrono::steady_clock::now();
      const auto pending = service_->StartFetch({groups, kRowBytes, {}});
      PASSBAND_ASSIGN_OR_RETURN(const auto rows, pending->Wait());
      const auto end = std::chrono::steady_clock::now();
      out.push_back(std::chrono::duration<double>(end - start).count());
      if (i % kCheckEvery == 0) PASSBAND_RETURN_IF_ERROR(Check(groups, rows.data()));
    }
    return out;
  }

  static Status Check(const std::vector<FetchGroup>& groups, const std::byte* row) {
    for (const FetchGroup& group : groups) {
      for (const uint32_t token : group.tokens) {
        const uint64_t want = Mark(group.layer, group.kv_head, token);
        if (std::memcmp(row, &want, sizeof(want)) != 0 ||
            std::memcmp(row + kRowBytes - sizeof(want), &want, sizeof(want)) != 0) {
          return Error(StatusCode::kDataLoss, "a wrong row for layer {}, head {}, token {}",
                       group.layer, group.kv_head, token);
        }
        row += kRowBytes;
      }
    }
    return OkStatus();
  }

  const Options options_;
  const RemoteOptions remote_;
  std::unique_ptr<RemoteService> service_;
  SequenceId id_;
  std::mt19937_64 random_{1};
};

// The worker's process. It is forked because the raw floor must be measured from one that
// has not used UCX.
class WorkerProcess {
 public:
  WorkerProcess(const Options& options, const RemoteOptions& remote) {
    std::array<int, 2> commands{}, results{};
    if (::pipe(commands.data()) != 0 || ::pipe(results.data()) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(commands[1]);
      ::close(results[0]);
      ::_exit(RunChild(options, remote, commands[0], results[1]));
    }
    ::close(commands[0]);
    ::close(results[1]);
    commands_ = commands[1];
    results_ = results[0];
  }
  ~WorkerProcess() {
    ::close(commands_);
    if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
    ::close(results_);
  }
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  Status AwaitReady() const {
    char ready = 0;
    return Read(&ready, 1);
  }

  StatusOr<std::vector<double>> Round(uint32_t requests) const {
    const char go = 0;
    if (::write(commands_, &go, 1) != 1) return Error(StatusCode::kUnavailable, "the worker ended");
    std::vector<double> out(requests);
    PASSBAND_RETURN_IF_ERROR(Read(out.data(), out.size() * sizeof(double)));
    return out;
  }

 private:
  static int RunChild(const Options& options, const RemoteOptions& remote, int commands,
                      int results) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(kClientCpu, &cpus);
    ::sched_setaffinity(0, sizeof(cpus), &cpus);
    const Status status = Worker(options, remote).Run(commands, results);
    if (!status.ok()) std::fprintf(stderr, "worker: %s\n", status.ToString().c_str());
    return status.ok() ? 0 : 1;
  }

  Status Read(void* out, size_t bytes) const {
    auto* at = static_cast<char*>(out);
    while (bytes > 0) {
      const ssize_t got = ::read(results_, at, bytes);
      if (got <= 0) return Error(StatusCode::kUnavailable, "the worker ended");
      at += got;
      bytes -= static_cast<size_t>(got);
    }
    return OkStatus();
  }

  pid_t pid_ = -1;
  int commands_ = -1;
  int results_ = -1;
};

struct Side {
  std::vector<double> p50;  // Of each round, seconds.
  std::vector<double> p99;
  void Add(const std::vector<double>& seconds) {
    p50.push_back(Percentile(seconds, 0.5));
    p99.push_back(Percentile(seconds, 0.99));
  }
};

// The most memory that a process ever held.
uint64_t PeakResidentBytes(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  std::string word;
  uint64_t kib = 0;
  while (status >> word) {
    if (word == "VmHWM:") status >> kib;
  }
  return kib << 10;
}

struct Line {
  std::string transport;
  Side raw, product;
  uint64_t server_ram = 0;       // What --ram said.
  uint64_t server_resident = 0;  // What the process held at most, all of it filled.

  double ratio(const std::vector<double> Side::*what) const {
    std::vector<double> ratios;
    for (size_t i = 0; i < (raw.*what).size(); ++i) {
      ratios.push_back((product.*what)[i] / (raw.*what)[i]);
    }
    return Percentile(ratios, 0.5);
  }
};

// How rows travel: a UCX transport, or gRPC.
struct Carrier {
  std::string tls = "tcp";  // UCX's transport, of the floor at least
  std::vector<std::string> server_flags;
  RemoteOptions remote;
};

Carrier CarrierOf(const std::string& name, const std::string& folder) {
  Carrier out;
  if (name != "grpc" && name != "mtls") {
    out.tls = name;
    return out;
  }
  out.server_flags = {"--data-plane", "grpc"};
  out.remote.data_plane = "grpc";
  if (name == "grpc") return out;
  const test::CertificateAuthority authority(folder, "authority");
  const TlsFiles server = authority.Issue("server", {.common_name = "server", .loopback = true});
  out.server_flags.insert(out.server_flags.end(), {"--tls-cert", server.certificate, "--tls-key",
                                                   server.key, "--tls-client-ca", server.ca});
  out.remote.tls = authority.Issue("client", {.common_name = "bench"});
  return out;
}

StatusOr<Line> Measure(const Options& options, const std::string& name, const Carrier& carrier) {
  const std::string& tls = carrier.tls;
  const uint64_t ram = uint64_t{kLayers} * kKvHeads * kRowBytes * options.tokens * 17 / 16;
  std::vector<std::string> flags = {"--ram",       std::to_string(ram), "--transports",
                                    tls + ",self", "--log-level",       "warn"};
  flags.insert(flags.end(), carrier.server_flags.begin(), carrier.server_flags.end());
  PASSBAND_ASSIGN_OR_RETURN(
      const auto server,
      test::ServerProcess::Start(
          {.binary = PASSBAND_SERVER_BINARY, .flags = flags, .cpu = kServerCpu}));
  RemoteOptions remote = carrier.remote;
  remote.control_address = server->control_address();
  remote.transports = tls + ",self";
  const WorkerProcess worker(options, remote);
  PASSBAND_RETURN_IF_ERROR(worker.AwaitReady());
  Line out{.transport = name};
  for (uint32_t round = 0; round < options.rounds; ++round) {
    PASSBAND_ASSIGN_OR_RETURN(const RawFetchResult raw,
                              MeasureRawFetch({.tls = tls,
                                               .rows = options.rows,
                                               .row_bytes = kRowBytes,
                                               .requests = options.requests,
                                               .server_cpu = kServerCpu,
                                               .client_cpu = kClientCpu}));
    if (remote.data_plane != "grpc") out.transport = raw.transport;
    out.raw.Add(raw.seconds);
    PASSBAND_ASSIGN_OR_RETURN(const std::vector<double> product, worker.Round(options.requests));
    out.product.Add(product);
  }
  out.server_ram = ram;
  out.server_resident = PeakResidentBytes(server->pid());
  return out;
}

void PrintTable(const std::vector<Line>& lines) {
  std::printf("%-10s %11s %13s %7s %11s %13s %7s\n", "transport", "raw p50 us", "fetch p50 us",
              "ratio", "raw p99 us", "fetch p99 us", "ratio");
  for (const Line& line : lines) {
    std::printf("%-10s %11.1f %13.1f %7.2f %11.1f %13.1f %7.2f\n", line.transport.c_str(),
                Percentile(line.raw.p50, 0.5) * 1e6, Percentile(line.product.p50, 0.5) * 1e6,
                line.ratio(&Side::p50), Percentile(line.raw.p99, 0.5) * 1e6,
                Percentile(line.product.p99, 0.5) * 1e6, line.ratio(&Side::p99));
  }
  for (const Line& line : lines) {
    std::printf("server memory over %s: --ram %s, at most %s resident\n", line.transport.c_str(),
                FormatBytes(line.server_ram).c_str(), FormatBytes(line.server_resident).c_str());
  }
}

void PrintJson(const std::vector<Line>& lines, const Options& options) {
  nlohmann::json out = nlohmann::json::array();
  for (const Line& line : lines) {
    out.push_back({{"transport", line.transport},
                   {"rows", options.rows},
                   {"row_bytes", kRowBytes},
                   {"rounds", options.rounds},
                   {"requests", options.requests},
                   {"raw_p50_us", Percentile(line.raw.p50, 0.5) * 1e6},
                   {"raw_p99_us", Percentile(line.raw.p99, 0.5) * 1e6},
                   {"fetch_p50_us", Percentile(line.product.p50, 0.5) * 1e6},
                   {"fetch_p99_us", Percentile(line.product.p99, 0.5) * 1e6},
                   {"ratio_p50", line.ratio(&Side::p50)},
                   {"ratio_p99", line.ratio(&Side::p99)},
                   {"server_ram_bytes", line.server_ram},
                   {"server_peak_resident_bytes", line.server_resident}});
  }
  std::printf("%s\n", out.dump(2).c_str());
}

int Main(int argc, char** argv) {
  Options options;
  std::vector<std::string> transports = {"posix", "tcp"};
  CLI::App app("A fetch through the product, beside the least it could cost");
  app.add_flag("--json", options.json, "Print JSON instead of a table");
  app.add_option("--rounds", options.rounds, "Rounds of each")->check(CLI::PositiveNumber);
  app.add_option("--requests", options.requests, "Requests in a round")
      ->check(CLI::Range(10, 4000));
  app.add_option("--rows", options.rows, "Rows in a request")->check(CLI::Range(8, 1 << 14));
  app.add_option("--transports", transports, "What to measure: posix, tcp, grpc, mtls");
  CLI11_PARSE(app, argc, argv);
  std::string folder = std::filesystem::temp_directory_path() / "passband-bench-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return 1;
  std::vector<Line> lines;
  for (const std::string& tls : transports) {
    const auto line = Measure(options, tls, CarrierOf(tls, folder));
    if (!line.ok()) {
      std::fprintf(stderr, "%s: %s\n", tls.c_str(), line.status().ToString().c_str());
      return 1;
    }
    lines.push_back(*line);
  }
  std::filesystem::remove_all(folder);
  options.json ? PrintJson(lines, options) : PrintTable(lines);
  return 0;
}

}  // namespace
}  // namespace passband::bench

int main(int argc, char** argv) { return passband::bench::Main(argc, argv); }
