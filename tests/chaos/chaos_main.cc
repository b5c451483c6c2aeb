// chaos_driver [--seconds N] [--seed S]: breaks everything around the service that can break, while
// workers look at every byte they get. Exits 1 when a byte is wrong, a call hangs, a sealed
// sequence is lost, an unsealed one survives its server, or memory leaks.
#include <cstdio>

#include "CLI/CLI.hpp"
#include "base/random.h"
#include "tests/chaos/report.h"

namespace passband::chaos {
namespace {

int Main(int argc, char** argv) {
  RunOptions options{.server_binary = PASSBAND_SERVER_BINARY,
                     .worker_binary = PASSBAND_CHAOS_WORKER};
  options.seed = RandomU64() >> 32;
  uint32_t seconds = 45;
  uint64_t grace_ms = static_cast<uint64_t>(options.grace.count());
  uint64_t longest_ms = static_cast<uint64_t>(options.longest_fault.count());
  CLI::App app("Faults of every kind, while workers verify every byte");
  app.add_option("--seconds", seconds, "How long to break things")->check(CLI::Range(1, 86400));
  app.add_option("--seed", options.seed, "Decides which faults come when");
  app.add_option("--grace-ms", grace_ms,
                 "A call that ends later than its deadline by more than this counts as a hang");
  app.add_option("--longest-ms", longest_ms, "Of a fault: some are shorter")
      ->check(CLI::Range(50, 60'000));
  app.add_option("--ram", options.ram, "Of the server; far less than the working set");
  app.add_option("--data-threads", options.data_threads, "Of the server, for each data plane")
      ->check(CLI::Range(1, 64));
  app.add_flag("!--plain", options.tls, "Without TLS: by default it is mutual on the gRPC port");
  app.add_option("--min-rows", options.min_rows, "Fail when fewer rows were verified");
  app.add_option("--writers", options.writers)->check(CLI::Range(1u, kMaxWorkers / 2));
  app.add_option("--readers", options.readers)->check(CLI::Range(1u, kMaxWorkers / 2));
  CLI11_PARSE(app, argc, argv);
  options.length = std::chrono::seconds(seconds);
  options.grace = std::chrono::milliseconds(grace_ms);
  options.longest_fault = std::chrono::milliseconds(longest_ms);
  std::fprintf(stderr, "seed %lu; to repeat: --seed %lu --seconds %u\n",
               static_cast<unsigned long>(options.seed), static_cast<unsigned long>(options.seed),
               seconds);
  auto run = Run::Start(options);
  Status status = run.status();
  if (status.ok()) status = (*run)->Execute();
  if (!status.ok()) {
    std::fprintf(stderr, "chaos: %s\n", status.ToString().c_str());
    return 1;
  }
  return Report(**run, options) ? 0 : 1;
}

}  // namespace
}  // namespace passband::chaos

int main(int argc, char** argv) { return passband::chaos::Main(argc, argv); }
