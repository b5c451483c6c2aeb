// raw_fetch_bench [--json] [--requests N] [--rows N] [--row-bytes N]: how long 2048
// scattered rows take from one process to another, by transport. What the product
// adds on top is read off against this.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "bench/raw_fetch.h"
#include "nlohmann/json.hpp"

namespace passband::bench {
namespace {

struct Line {
  std::string what;
  std::string transport;
  double p50_us;
  double p99_us;
  double best_us;
  double gb_per_s;  // At the median.
};

double PercentileUs(const std::vector<double>& sorted, double share) {
  const auto last = static_cast<double>(sorted.size() - 1);
  return sorted[static_cast<size_t>(last * share)] * 1e6;
}

Line Summarise(const std::string& what, RawFetchResult result, double bytes) {
  std::sort(result.seconds.begin(), result.seconds.end());
  const double median = PercentileUs(result.seconds, 0.5);
  return {what,
          result.transport,
          median,
          PercentileUs(result.seconds, 0.99),
          PercentileUs(result.seconds, 0),
          bytes / median / 1e3};
}

void PrintTable(const std::vector<Line>& lines) {
  std::printf("%-10s %-10s %9s %9s %9s %7s\n", "fetch", "transport", "p50 us", "p99 us", "best us",
              "GB/s");
  for (const Line& line : lines) {
    std::printf("%-10s %-10s %9.1f %9.1f %9.1f %7.2f\n", line.what.c_str(), line.transport.c_str(),
                line.p50_us, line.p99_us, line.best_us, line.gb_per_s);
  }
}

void PrintJson(const std::vector<Line>& lines, const RawFetchOptions& options) {
  nlohmann::json out = nlohmann::json::array();
  for (const Line& line : lines) {
    out.push_back({{"fetch", line.what},
                   {"transport", line.transport},
                   {"rows", options.rows},
                   {"row_bytes", options.row_bytes},
                   {"requests", options.requests},
                   {"p50_us", line.p50_us},
                   {"p99_us", line.p99_us},
                   {"best_us", line.best_us},
                   {"gb_per_s", line.gb_per_s}});
  }
  std::printf("%s\n", out.dump(2).c_str());
}

int Main(int argc, char** argv) {
  RawFetchOptions options;
  bool json = false;
  CLI::App app("The floor under a fetch, by transport");
  app.add_flag("--json", json, "Print JSON instead of a table");
  app.add_option("--requests", options.requests, "Requests measured")->check(CLI::PositiveNumber);
  app.add_option("--rows", options.rows, "Rows in a request")->check(CLI::Range(1, 1 << 18));
  app.add_option("--row-bytes", options.row_bytes, "Bytes in a row")->check(CLI::Range(16, 4096));
  CLI11_PARSE(app, argc, argv);

  std::vector<Line> lines;
  for (const char* tls : {"posix", "tcp"}) {
    options.tls = tls;
    auto result = MeasureRawFetch(options);
    if (!result.ok()) {
      std::fprintf(stderr, "%s: %s\n", tls, result.status().ToString().c_str());
      return 1;
    }
    lines.push_back(
        Summarise("raw", *std::move(result), double{1} * options.rows * options.row_bytes));
  }
  if (json) {
    PrintJson(lines, options);
  } else {
    PrintTable(lines);
  }
  return 0;
}

}  // namespace
}  // namespace passband::bench

int main(int argc, char** argv) { return passband::bench::Main(argc, argv); }
