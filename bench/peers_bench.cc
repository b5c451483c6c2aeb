// peers_bench [--rounds N] [--requests N]: Passband beside Redis and memcached.
//
// What an inference worker asks of a store: random rows of a layer (4096 x 256 B and
// 2048 x 512 B), and whole values of 1 MiB. Every server runs on core 0, every client on
// core 1, one request at a time. Rounds of all peers alternate, so that they meet the same
// neighbours; the replies of every tenth request are checked byte by byte. Prints a table
// and, last, a line of JSON.
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <random>

#include "CLI/CLI.hpp"
#include "bench/peers/peer.h"
#include "bench/percentile.h"
#include "nlohmann/json.hpp"
#include "services/console/progress.h"

namespace passband::bench {
namespace {

constexpr int kClientCpu = 1;
constexpr uint32_t kCheckEvery = 10;

struct Options {
  uint32_t rounds = 7;
  uint32_t requests = 60;
};

// One way to do one thing, over all rounds.
struct Line {
  std::string task, peer, link, command;
  size_t bytes = 0;                         // Of one request.
  std::vector<std::vector<double>> rounds;  // Seconds of requests.
  uint64_t checked_bytes = 0;

  // Neighbours disturb a round: the median round speaks.
  double OfMedianRound(double share) const {
    std::vector<double> out;
    for (const auto& round : rounds) out.push_back(Percentile(round, share));
    return Percentile(out, 0.5);
  }
  double p50() const { return OfMedianRound(0.5); }
  double p99() const { return OfMedianRound(0.99); }
  double gigabytes_per_second() const { return static_cast<double>(bytes) / p50() * 1e-9; }
};

using Task = std::function<Status(Line& line, bool check, double& seconds)>;

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class Comparison {
 public:
  Comparison(const Options& options, const Workload& workload)
      : options_(options), workload_(workload), tokens_(workload.rows), value_(kValueBytes) {}

  Status Start() {
    Progress filled(fmt::format("fill with rows of {} B", workload_.row_bytes), 6, "servers");
    for (const auto start : {StartRedis, StartMemcached, StartPassband}) {
      for (const Link link : {Link::kTcp, Link::kLocal}) {
        PASSBAND_ASSIGN_OR_RETURN(auto peer, start(workload_, link));
        PASSBAND_RETURN_IF_ERROR(peer->Fill());
        filled.Advance(1);
        peers_.push_back(std::move(peer));
      }
    }
    return OkStatus();
  }

  Status Gathers(std::vector<Line>& out) {
    const std::string task = fmt::format("gather {} x {} B", workload_.rows, workload_.row_bytes);
    std::vector<std::pair<Line, Task>> tasks;
    for (const auto& peer : peers_) {
      const std::vector<std::string> names = peer->gathers();
      for (size_t which = 0; which < names.size(); ++which) {
        tasks.emplace_back(
            Line{task, peer->name(), peer->link(), names[which], workload_.gather_bytes(), {}, 0},
            [this, which, &peer = *peer](Line& line, bool check, double& seconds) {
              return Gather(peer, which, line, check, seconds);
            });
      }
    }
    return Run(tasks, out);
  }

  Status Values(std::vector<Line>& out) {
    std::vector<std::pair<Line, Task>> tasks;
    for (const auto& peer : peers_) {
      tasks.emplace_back(Line{"put 1 MiB", peer->name(), peer->link(), "", kValueBytes, {}, 0},
                         [this, at = 0u, &peer = *peer](Line&, bool, double& seconds) mutable {
                           Write(PlaceOfValue(at), value_);
                           const auto start = std::chrono::steady_clock::now();
                           const Status status = peer.Put(at, value_);
                           seconds = SecondsSince(start);
                           at = (at + 1) % kValues;
                           return status;
                         });
    }
    // Each peer's round of puts comes before its round of gets, and puts every value.
    const size_t puts = tasks.size();
    for (size_t i = 0; i < puts; ++i) {
      Peer& peer = *peers_[i];
      tasks.emplace_back(Line{"get 1 MiB", peer.name(), peer.link(), "", kValueBytes, {}, 0},
                         [this, &peer](Line& line, bool check, double& seconds) {
                           return Get(peer, line, check, seconds);
                         });
    }
    return Run(tasks, out, kValues);
  }

 private:
  Status Run(std::vector<std::pair<Line, Task>>& tasks, std::vector<Line>& out,
             uint32_t requests = 0) {
    if (requests == 0) requests = options_.requests;
    Progress progress(tasks.front().first.task, (options_.rounds + 1) * tasks.size(), "series");
    // The first round only warms pages and connections.
    for (uint32_t round = 0; round <= options_.rounds; ++round) {
      for (auto& [line, task] : tasks) {
        std::vector<double> seconds(requests);
        for (uint32_t i = 0; i < requests; ++i) {
          PASSBAND_RETURN_IF_ERROR(task(line, i % kCheckEvery == 0, seconds[i]));
        }
        if (round > 0) line.rounds.push_back(std::move(seconds));
        progress.Advance(1);
      }
    }
    for (auto& [line, task] : tasks) out.push_back(std::move(line));
    return OkStatus();
  }

  Status Gather(Peer& peer, size_t which, Line& line, bool check, double& seconds) {
    const auto layer = static_cast<uint32_t>(random_() % workload_.layers);
    for (uint32_t& token : tokens_) token = static_cast<uint32_t>(random_() % kTokens);
    const auto start = std::chrono::steady_clock::now();
    PASSBAND_ASSIGN_OR_RETURN(const auto rows, peer.Gather(which, {layer, tokens_}));
    seconds = SecondsSince(start);
    if (rows.size() != workload_.gather_bytes()) return Wrong(line);
    if (!check) return OkStatus();
    for (size_t i = 0; i < tokens_.size(); ++i) {
      const auto head = static_cast<uint32_t>(i / workload_.per_head());
      if (!Holds(PlaceOf(layer, head, tokens_[i]),
                 rows.subspan(i * workload_.row_bytes, workload_.row_bytes))) {
        return Wrong(line);
      }
    }
    line.checked_bytes += rows.size();
    return OkStatus();
  }

  Status Get(Peer& peer, Line& line, bool check, double& seconds) {
    const auto at = static_cast<uint32_t>(random_() % kValues);
    const auto start = std::chrono::steady_clock::now();
    PASSBAND_ASSIGN_OR_RETURN(const auto got, peer.Get(at));
    seconds = SecondsSince(start);
    if (!check) return OkStatus();
    Write(PlaceOfValue(at), value_);
    if (!peer.IsValue(got, value_)) return Wrong(line);
    line.checked_bytes += got.size();
    return OkStatus();
  }

  static Status Wrong(const Line& line) {
    return Error(StatusCode::kDataLoss, "wrong bytes from {} over {}, {} {}", line.peer, line.link,
                 line.task, line.command);
  }

  const Options options_;
  const Workload workload_;
  std::vector<std::unique_ptr<Peer>> peers_;
  std::vector<uint32_t> tokens_;
  std::vector<std::byte> value_;
  std::mt19937_64 random_{1};
};

// How many times faster `ours` is than the best of `peer` over `link`, by p50.
double Times(const std::vector<Line>& lines, const Line& ours, const std::string& peer,
             bool over_tcp) {
  double best = 0;
  for (const Line& line : lines) {
    if (line.task != ours.task || line.peer != peer || (line.link == "tcp") != over_tcp) continue;
    if (best == 0 || line.p50() < best) best = line.p50();
  }
  return best / ours.p50();
}

void PrintTable(const std::vector<Line>& lines) {
  std::printf("%-20s %-10s %-5s %-10s %10s %10s %7s\n", "task", "peer", "link", "command", "p50 us",
              "p99 us", "GB/s");
  for (const Line& line : lines) {
    std::printf("%-20s %-10s %-5s %-10s %10.1f %10.1f %7.2f\n", line.task.c_str(),
                line.peer.c_str(), line.link.c_str(), line.command.c_str(), line.p50() * 1e6,
                line.p99() * 1e6, line.gigabytes_per_second());
  }
  std::printf("\n%-20s %-14s %12s %12s %14s %14s\n", "times faster, p50", "passband over",
              "redis, tcp", "redis, unix", "memcached, tcp", "memcached, unix");
  for (const Line& line : lines) {
    if (line.peer != "passband") continue;
    std::printf("%-20s %-14s %12.2f %12.2f %14.2f %14.2f\n", line.task.c_str(), line.link.c_str(),
                Times(lines, line, "redis", true), Times(lines, line, "redis", false),
                Times(lines, line, "memcached", true), Times(lines, line, "memcached", false));
  }
}

void PrintJson(const std::vector<Line>& lines, const Options& options) {
  nlohmann::json out = {{"rounds", options.rounds}, {"requests", options.requests}};
  for (const Line& line : lines) {
    nlohmann::json entry = {{"task", line.task},
                            {"peer", line.peer},
                            {"link", line.link},
                            {"command", line.command},
                            {"p50_us", line.p50() * 1e6},
                            {"p99_us", line.p99() * 1e6},
                            {"gb_per_s", line.gigabytes_per_second()},
                            {"checked_bytes", line.checked_bytes}};
    if (line.peer == "passband") {
      entry["times_redis_tcp"] = Times(lines, line, "redis", true);
      entry["times_redis_unix"] = Times(lines, line, "redis", false);
      entry["times_memcached_tcp"] = Times(lines, line, "memcached", true);
      entry["times_memcached_unix"] = Times(lines, line, "memcached", false);
    }
    out["results"].push_back(std::move(entry));
  }
  std::printf("%s\n", out.dump().c_str());
}

Status Measure(const Options& options, std::vector<Line>& lines) {
  {
    Comparison small(options, {.row_bytes = 256, .rows = 4096, .layers = 16});
    PASSBAND_RETURN_IF_ERROR(small.Start());
    PASSBAND_RETURN_IF_ERROR(small.Gathers(lines));
  }
  Comparison large(options, {.row_bytes = 512, .rows = 2048, .layers = 8});
  PASSBAND_RETURN_IF_ERROR(large.Start());
  PASSBAND_RETURN_IF_ERROR(large.Gathers(lines));
  return large.Values(lines);
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Passband beside Redis and memcached");
  app.add_option("--rounds", options.rounds, "Rounds of each")->check(CLI::Range(1, 1000));
  app.add_option("--requests", options.requests, "Gathers in a round")
      ->check(CLI::Range(1, 100000));
  CLI11_PARSE(app, argc, argv);
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(kClientCpu, &cpus);
  ::sched_setaffinity(0, sizeof(cpus), &cpus);
  std::vector<Line> lines;
  if (const Status status = Measure(options, lines); !status.ok()) {
    std::fprintf(stderr, "peers_bench: %s\n", status.ToString().c_str());
    return 1;
  }
  PrintTable(lines);
  PrintJson(lines, options);
  return 0;
}

}  // namespace
}  // namespace passband::bench

int main(int argc, char** argv) { return passband::bench::Main(argc, argv); }
