#include "tests/chaos/report.h"

#include <algorithm>
#include <cstdio>

#include "base/units.h"
#include "nlohmann/json.hpp"
#include "services/console/table.h"

namespace passband::chaos {
namespace {

// Over all workers.
struct Sums {
  uint64_t requests = 0, fetched_rows = 0, read_rows = 0, slices = 0, appended_rows = 0;
  uint64_t seals = 0, wrong = 0, lost = 0, resurrected = 0, gone = 0, kept = 0, hangs = 0,
           connects = 0;
  double longest_over = 0;  // Seconds past its time that a call ended, at most.
  std::array<uint64_t, kCodes> codes{};
};

Sums Add(Run& run) {
  Sums out;
  for (uint32_t i = 0; i < run.worker_count(); ++i) {
    const WorkerRecord& worker = run.board().workers[i];
    out.requests += worker.requests;
    out.fetched_rows += worker.fetched_rows;
    out.read_rows += worker.read_rows;
    out.slices += worker.slices;
    out.appended_rows += worker.appended_rows;
    out.seals += worker.seals;
    out.wrong += worker.wrong;
    out.lost += worker.lost;
    out.resurrected += worker.resurrected;
    out.gone += worker.gone;
    out.kept += worker.kept;
    out.hangs += worker.hangs;
    out.connects += worker.connects;
    out.longest_over =
        std::max(out.longest_over, static_cast<double>(worker.longest_over_ns) * 1e-9);
    for (size_t code = 0; code < kCodes; ++code) out.codes[code] += worker.codes[code];
  }
  out.hangs += run.defects().stuck + run.defects().unrecovered;
  return out;
}

double Middle(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}
double Most(const std::vector<double>& values) {
  return *std::max_element(values.begin(), values.end());
}

std::string CodeName(size_t code) {
  return absl::StatusCodeToString(static_cast<StatusCode>(code));
}

void PrintFaults(const Run& run, const Terminal& terminal) {
  Table table({{"fault"},
               {"injected", Align::kRight},
               {"requests failed", Align::kRight},
               {"recovery, median", Align::kRight},
               {"longest", Align::kRight}});
  for (size_t kind = 0; kind < kFaultKinds; ++kind) {
    const FaultTally& tally = run.tallies()[kind];
    std::vector<std::string> cells = {Name(static_cast<FaultKind>(kind)),
                                      FormatCount(tally.injected),
                                      FormatCount(tally.failed_requests)};
    if (!tally.recovery_seconds.empty()) {
      cells.push_back(FormatSeconds(Middle(tally.recovery_seconds)));
      cells.push_back(FormatSeconds(Most(tally.recovery_seconds)));
    }
    table.AddRow(cells);
  }
  std::printf("\n%s", table.Text(terminal).c_str());
  for (const Stage::Skipped& skipped : run.stage().skipped()) {
    std::printf("SKIPPED: %s: %s\n", Name(skipped.kind), Message(skipped.why).c_str());
  }
}

void PrintSums(const Sums& sums, const Run& run, const Terminal& terminal) {
  Table table({{"what"}, {"", Align::kRight}});
  const auto add = [&](const char* what, uint64_t count) {
    table.AddRow({what, FormatCount(count)});
  };
  add("requests", sums.requests);
  add("connections", sums.connects);
  add("rows verified", sums.fetched_rows + sums.read_rows);
  add("  of fetches", sums.fetched_rows);
  add("  of reads", sums.read_rows);
  add("slices verified", sums.slices);
  add("rows appended", sums.appended_rows);
  add("sequences sealed", sums.seals);
  const test::BadCable::Counts packets = run.packets();
  add("packets over the bad cable", packets.carried);
  add("  lost", packets.lost);
  add("  late", packets.late);
  add("  overtaken", packets.overtaken);
  add("  twice", packets.twice);
  add("unsealed sequences gone with their server", sums.gone);
  add("sealed sequences back after a restart", sums.kept);
  for (size_t code = 1; code < kCodes; ++code) {
    if (sums.codes[code] == 0) continue;
    table.AddRow({"ended with " + CodeName(code), FormatCount(sums.codes[code])});
  }
  table.AddRow({"latest end past a deadline", FormatSeconds(sums.longest_over)});
  add("wrong rows or slices", sums.wrong);
  add("sealed sequences lost", sums.lost);
  add("unsealed sequences resurrected", sums.resurrected);
  add("hangs", sums.hangs);
  add("servers that crashed", run.defects().dead_servers);
  add("workers that crashed", run.defects().dead_workers);
  table.AddRow({"memory and sessions left at the end", run.defects().leaks ? "yes" : "none"});
  std::printf("\n%s\n", table.Text(terminal).c_str());
}

// What the run was to show and did not.
std::vector<std::string> Failures(const Sums& sums, const Run& run, const RunOptions& options) {
  std::vector<std::string> out;
  const auto none = [&](uint64_t count, const char* what) {
    if (count > 0) out.push_back(fmt::format("{} {}", count, what));
  };
  const Defects& defects = run.defects();
  none(sums.wrong, "wrong rows or slices");
  none(sums.hangs, "hangs");
  none(sums.lost, "sealed sequences lost");
  none(sums.resurrected, "unsealed sequences resurrected");
  none(defects.dead_servers, "server crashes");
  none(defects.dead_workers, "worker crashes");
  if (defects.leaks) out.push_back("the audit of the end");
  const uint64_t rows = sums.fetched_rows + sums.read_rows;
  if (rows < options.min_rows) {
    out.push_back(fmt::format("{} rows verified where {} were asked for", rows, options.min_rows));
  }
  if (sums.fetched_rows == 0 || sums.slices == 0) out.push_back("no fetches, or no slices");
  if (sums.kept == 0) out.push_back("no sealed sequence was there to come back");
  for (const FaultKind kind : run.stage().kinds()) {
    if (run.tallies()[static_cast<size_t>(kind)].injected > 0) continue;
    out.push_back(fmt::format("'{}' was never injected", Name(kind)));
  }
  return out;
}

void PrintJson(const Sums& sums, const Run& run, const RunOptions& options,
               const std::vector<std::string>& failures) {
  nlohmann::json out = {
      {"seed", options.seed},
      {"seconds", run.seconds()},
      {"good", failures.empty()},
      {"failures", failures},
      {"requests", sums.requests},
      {"rows_verified", sums.fetched_rows + sums.read_rows},
      {"slices_verified", sums.slices},
      {"rows_appended", sums.appended_rows},
      {"wrong_bytes", sums.wrong},
      {"hangs", sums.hangs},
      {"lost_sealed", sums.lost},
      {"resurrected", sums.resurrected},
      {"unsealed_gone", sums.gone},
      {"sealed", sums.seals},
      {"sealed_kept", sums.kept},
      {"server_crashes", run.defects().dead_servers},
      {"worker_crashes", run.defects().dead_workers},
      {"leaks", run.defects().leaks},
      {"latest_past_deadline_s", sums.longest_over},
      {"data_threads", options.data_threads},
      {"tls", options.tls},
      {"grace_s", std::chrono::duration<double>(options.grace).count()},
  };
  const test::BadCable::Counts packets = run.packets();
  out["packets"] = {{"carried", packets.carried},
                    {"lost", packets.lost},
                    {"late", packets.late},
                    {"overtaken", packets.overtaken},
                    {"twice", packets.twice}};
  for (const Stage::Skipped& skipped : run.stage().skipped()) {
    out["skipped"][Name(skipped.kind)] = Message(skipped.why);
  }
  for (size_t kind = 0; kind < kFaultKinds; ++kind) {
    const FaultTally& tally = run.tallies()[kind];
    nlohmann::json& fault = out["faults"][Name(static_cast<FaultKind>(kind))];
    fault["injected"] = tally.injected;
    fault["failed_requests"] = tally.failed_requests;
    if (tally.recovery_seconds.empty()) continue;
    fault["recovery_median_s"] = Middle(tally.recovery_seconds);
    fault["recovery_longest_s"] = Most(tally.recovery_seconds);
  }
  for (size_t code = 0; code < kCodes; ++code) {
    if (sums.codes[code] > 0) out["status"][CodeName(code)] = sums.codes[code];
  }
  std::printf("%s\n", out.dump().c_str());
}

}  // namespace

bool Report(Run& run, const RunOptions& options) {
  const Sums sums = Add(run);
  const std::vector<std::string> failures = Failures(sums, run, options);
  const Terminal terminal = Terminal::Of(stdout);
  PrintFaults(run, terminal);
  PrintSums(sums, run, terminal);
  for (const std::string& failure : failures) std::printf("FAILED: %s\n", failure.c_str());
  PrintJson(sums, run, options, failures);
  return failures.empty();
}

}  // namespace passband::chaos
