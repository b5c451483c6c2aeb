// Many workers on one server: is each served, are they served alike, and does the server do as
// much for many as for one with the same load?
//
//   workers_bench [--workers 64] [--seconds 4] [--rounds 3] [--transports shm tcp] [--spin-us 200]
//
// A server in a process of its own, and N processes with one fetch under way each; beside them,
// in turn, one process with N fetches under way over the same N sequences. Every row is looked
// at, by its first and last eight bytes. Prints a table and, last, a line of JSON.
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <random>

#include "CLI/CLI.hpp"
#include "base/units.h"
#include "nlohmann/json.hpp"
#include "sdk/remote_service.h"
#include "tests/support/server_process.h"

namespace passband {
namespace {

constexpr uint32_t kMostWorkers = 256;
constexpr uint32_t kKvHeads = 8;
constexpr uint32_t kRowBytes = 512;
constexpr uint32_t kTokens = 1024;  // Of a sequence: 4 MiB.
constexpr uint32_t kBlockTokens = 64;
constexpr uint32_t kRows = 512;  // Of a fetch: 256 KiB.

struct Options {
  uint32_t workers = 64;
  double seconds = 4;
  uint32_t rounds = 3;
  uint32_t spin_us = 200;  // The SDK's own.
  std::vector<std::string> transports = {"shm", "tcp"};
};

// Shared with the processes that were forked. All zeros to begin with.
struct Board {
  std::atomic<uint32_t> ready, go, errors;
  std::array<std::atomic<uint64_t>, kMostWorkers> rows;
};

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

uint64_t Mark(uint32_t sequence, uint32_t head, uint32_t token) {
  return (uint64_t{sequence} << 40 | uint64_t{head} << 32 | token) * 0x9E3779B97F4A7C15u + 1;
}

ModelInfo BenchModel() {
  return {.fingerprint = {std::string(64, 'b'), std::string(64, 'e')},
          .name = "bench",
          .layers = 1,
          .query_heads = 32,
          .kv_heads = kKvHeads,
          .head = {}};
}

// `sequences` of its own, and as many fetches under way.
class Worker {
 public:
  Worker(uint32_t index, uint32_t sequences, Board& board)
      : index_(index), board_(board), ids_(sequences), random_(index) {}

  Status Run(const RemoteOptions& remote, double seconds) {
    PASSBAND_ASSIGN_OR_RETURN(service_, RemoteService::Connect(remote));
    PASSBAND_RETURN_IF_ERROR(service_->RegisterModel(BenchModel()));
    for (uint32_t i = 0; i < ids_.size(); ++i) PASSBAND_RETURN_IF_ERROR(Fill(i));
    PASSBAND_RETURN_IF_ERROR(FetchFor(0.1));  // Warm: lanes, pages of landing memory.
    ++board_.ready;
    while (board_.go == 0) ::poll(nullptr, 0, 1);
    board_.rows[index_] = 0;
    return FetchFor(seconds);
  }

 private:
  struct Fetch {
    uint32_t sequence = 0;
    std::vector<uint32_t> tokens;
    std::unique_ptr<PendingRows> pending;
  };

  Status Fill(uint32_t sequence) {
    PASSBAND_ASSIGN_OR_RETURN(
        const OpenedSequence opened,
        service_->Open({.model = BenchModel().fingerprint.text(), .token_ids = {}}));
    ids_[sequence] = opened.id;
    std::vector<std::byte> rows(size_t{kKvHeads} * kBlockTokens * kRowBytes);
    for (uint32_t first = 0; first < kTokens; first += kBlockTokens) {
      std::byte* at = rows.data();
      for (uint32_t head = 0; head < kKvHeads; ++head) {
        for (uint32_t token = first; token < first + kBlockTokens; ++token, at += kRowBytes) {
          const uint64_t mark = Mark(sequence, head, token);
          std::memcpy(at, &mark, sizeof(mark));
          std::memcpy(at + kRowBytes - sizeof(mark), &mark, sizeof(mark));
        }
      }
      PASSBAND_RETURN_IF_ERROR(service_->Append({opened.id, 0, first, kBlockTokens, rows}));
    }
    return service_->Flush(opened.id);
  }

  Fetch Start(uint32_t sequence) {
    Fetch out{sequence, std::vector<uint32_t>(kRows), nullptr};
    for (uint32_t& token : out.tokens) token = static_cast<uint32_t>(random_() % kTokens);
    std::array<FetchGroup, kKvHeads> groups;
    for (uint32_t head = 0; head < kKvHeads; ++head) {
      groups[head] = {ids_[sequence], 0, head,
                      std::span(out.tokens).subspan(head * kRows / kKvHeads, kRows / kKvHeads)};
    }
    out.pending = service_->StartFetch({groups, kRowBytes, {}});
    return out;
  }

  Status FetchFor(double seconds) {
    const double end = Now() + seconds;
    std::deque<Fetch> under_way;
    for (uint32_t i = 0; i < ids_.size(); ++i) under_way.push_back(Start(i));
    while (Now() < end) {
      PASSBAND_RETURN_IF_ERROR(Take(under_way.front()));
      board_.rows[index_] += kRows;
      const uint32_t sequence = under_way.front().sequence;
      under_way.pop_front();
      under_way.push_back(Start(sequence));
    }
    for (Fetch& fetch : under_way) PASSBAND_RETURN_IF_ERROR(Take(fetch));
    return OkStatus();
  }

  Status Take(Fetch& fetch) {
    PASSBAND_ASSIGN_OR_RETURN(const auto rows, fetch.pending->Wait());
    const std::byte* at = rows.data();
    for (uint32_t i = 0; i < kRows; ++i, at += kRowBytes) {
      const uint64_t mark = Mark(fetch.sequence, i / (kRows / kKvHeads), fetch.tokens[i]);
      if (std::memcmp(at, &mark, sizeof(mark)) != 0 ||
          std::memcmp(at + kRowBytes - sizeof(mark), &mark, sizeof(mark)) != 0) {
        return Error(StatusCode::kDataLoss, "row {} of a fetch is wrong", i);
      }
    }
    return OkStatus();
  }

  const uint32_t index_;
  Board& board_;
  std::vector<SequenceId> ids_;
  std::mt19937_64 random_;
  std::unique_ptr<RemoteService> service_;
};

struct Result {
  uint32_t errors = 0;
  std::vector<double> rates;  // Rows a second, of each worker.
  double total() const {
    double sum = 0;
    for (const double rate : rates) sum += rate;
    return sum;
  }
  double fairness() const {
    return *std::min_element(rates.begin(), rates.end()) /
           *std::max_element(rates.begin(), rates.end());
  }
};

// `processes` with `sequences` each.
Result Measure(const Options& options, const RemoteOptions& remote, uint32_t processes,
               uint32_t sequences) {
  void* memory =
      ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  PASSBAND_CHECK(memory != MAP_FAILED);
  Board& board = *static_cast<Board*>(memory);
  std::vector<pid_t> children;
  for (uint32_t i = 0; i < processes; ++i) {
    const pid_t pid = ::fork();
    PASSBAND_CHECK(pid >= 0);
    if (pid != 0) {
      children.push_back(pid);
      continue;
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const Status status = Worker(i, sequences, board).Run(remote, options.seconds);
    if (!status.ok()) {
      ++board.errors;
      ++board.ready;  // Nobody is to wait for it.
      std::fprintf(stderr, "worker %u: %s\n", i, status.ToString().c_str());
    }
    ::_exit(0);
  }
  while (board.ready < processes) ::poll(nullptr, 0, 5);
  board.go = 1;
  for (const pid_t child : children) ::waitpid(child, nullptr, 0);
  Result out{.errors = board.errors, .rates = {}};
  for (uint32_t i = 0; i < processes; ++i) {
    out.rates.push_back(static_cast<double>(board.rows[i]) / options.seconds);
  }
  ::munmap(memory, sizeof(Board));
  return out;
}

double Middle(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Prints a line, and returns it as JSON.
StatusOr<nlohmann::json> Compare(const Options& options, const std::string& transport) {
  const std::string tls = transport == "tcp" ? "tcp,self" : "posix,tcp,self";
  PASSBAND_ASSIGN_OR_RETURN(
      const auto server,
      test::ServerProcess::Start(
          {.binary = PASSBAND_SERVER_BINARY,
           .flags = {"--ram", std::to_string((uint64_t{options.workers} * 5 + 64) << 20),
                     "--transports", tls, "--log-level", "error"}}));
  RemoteOptions remote;
  remote.control_address = server->control_address();
  remote.transports = tls;
  remote.spin = std::chrono::microseconds(options.spin_us);
  // It is the throughput that is asked for: deadlines are for what hangs.
  remote.connect_timeout = remote.control_timeout = std::chrono::seconds(60);
  remote.data_timeout = std::chrono::seconds(20);
  std::vector<double> one, many, fairness;
  uint32_t errors = 0;
  for (uint32_t round = 0; round < options.rounds; ++round) {
    for (const bool is_one : {round % 2 == 0, round % 2 != 0}) {
      const Result result = is_one ? Measure(options, remote, 1, options.workers)
                                   : Measure(options, remote, options.workers, 1);
      errors += result.errors;
      (is_one ? one : many).push_back(result.total());
      if (!is_one) fairness.push_back(result.fairness());
    }
  }
  const double share = Middle(many) / Middle(one);
  const double worst = *std::min_element(fairness.begin(), fairness.end());
  std::printf("%-10s %14.0f %14.0f %10.2f %16.2f %16.2f %8u\n", transport.c_str(), Middle(one),
              Middle(many), share, Middle(fairness), worst, errors);
  return nlohmann::json{{"transport", transport},         {"one_rows_per_s", one},
                        {"many_rows_per_s", many},        {"share", share},
                        {"fairness", fairness},           {"errors", errors},
                        {"fair_within_20", worst >= 0.8}, {"share_90", share >= 0.9}};
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Many workers on one server, beside one with the same load");
  app.add_option("--workers", options.workers)->check(CLI::Range(1u, kMostWorkers));
  app.add_option("--seconds", options.seconds, "Of each measurement")->check(CLI::Range(0.1, 600.));
  app.add_option("--rounds", options.rounds, "Of both, in turn")->check(CLI::Range(1u, 100u));
  app.add_option("--spin-us", options.spin_us, "How long a waiting worker polls before it sleeps");
  app.add_option("--transports", options.transports)->check(CLI::IsMember({"shm", "tcp"}));
  CLI11_PARSE(app, argc, argv);
  std::printf("%-10s %14s %14s %10s %16s %16s %8s\n", "transport", "one, rows/s",
              fmt::format("{}, rows/s", options.workers).c_str(), "share", "min/max, median",
              "min/max, worst", "errors");
  nlohmann::json out = {{"bench", "workers"},
                        {"workers", options.workers},
                        {"rows", kRows},
                        {"row_bytes", kRowBytes},
                        {"spin_us", options.spin_us}};
  bool good = true;
  for (const std::string& transport : options.transports) {
    const auto line = Compare(options, transport);
    if (!line.ok()) {
      std::fprintf(stderr, "%s\n", line.status().ToString().c_str());
      return 1;
    }
    good = good && (*line)["errors"] == 0;
    out["results"].push_back(*line);
  }
  std::printf("%s\n", out.dump().c_str());
  return good ? 0 : 1;
}

}  // namespace
}  // namespace passband

int main(int argc, char** argv) { return passband::Main(argc, argv); }
