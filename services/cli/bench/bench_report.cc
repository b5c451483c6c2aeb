#include "services/cli/bench/bench_report.h"

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "services/cli/figures.h"
#include "services/console/table.h"

namespace passband::bench {
namespace {

using Json = nlohmann::ordered_json;

std::string Time(double seconds) { return std::isnan(seconds) ? "-" : FormatSeconds(seconds); }

Json OrNull(double value) { return std::isnan(value) ? Json() : Json(value); }

}  // namespace

void PrintBenchText(const std::string& what, const Plan& plan, const Timing& timing,
                    const Outcome& outcome) {
  const Terminal terminal = Terminal::Of(stdout);
  const LatencyHistogram& latency = outcome.done.latency;
  fmt::print("{} over {}, {}, {} of {} tokens each, {} layers, {} kv heads of {}\n\n", what,
             outcome.transport, Counted(timing.workers, "worker"), Counted(plan.batch, "sequence"),
             FormatCount(plan.tokens), plan.model.layers, plan.model.kv_heads,
             plan.model.head.head_dim);
  Table table({{"", Align::kLeft}, {"", Align::kRight}, {""}});
  const auto row = [&](const char* name, const std::string& value, const std::string& remark = "") {
    table.AddRow({name, terminal.Bold(value), terminal.Dim(remark)});
  };
  row(what == "attach" ? "slices" : "rows", Rate(outcome.rows_per_second) + "/s",
      fmt::format("{} in {}", FormatCount(outcome.done.rows), Time(outcome.done.seconds)));
  row("bytes", fmt::format("{:.3f} GB/s", outcome.bytes_per_second * 1e-9),
      Bytes(outcome.done.bytes));
  row("operations", Rate(outcome.operations_per_second) + "/s", FormatCount(latency.count()));
  table.AddRow({});
  row("p50", Time(latency.Quantile(0.5)));
  row("p90", Time(latency.Quantile(0.9)));
  row("p99", Time(latency.Quantile(0.99)));
  row("p99.9", Time(latency.Quantile(0.999)));
  row("longest", latency.count() == 0 ? "-" : Time(latency.max_seconds()));
  std::fputs(table.Text(terminal).c_str(), stdout);
  if (plan.verify) fmt::print("\nverified: {}, all right\n", Bytes(outcome.done.verified_bytes));
}

void PrintBenchJson(const std::string& what, const Plan& plan, const Timing& timing,
                    const Outcome& outcome) {
  const LatencyHistogram& latency = outcome.done.latency;
  const Json json = {
      {"schema", "passband.bench/v1"},
      {"what", what},
      {"server", plan.remote.control_address},
      {"transport", outcome.transport},
      {"workers", timing.workers},
      {"batch", plan.batch},
      {"tokens", plan.tokens},
      {"rows_per_fetch", what == "fetch" ? Json(plan.rows) : Json()},
      {"shape",
       {{"layers", plan.model.layers},
        {"kv_heads", plan.model.kv_heads},
        {"head_dim", plan.model.head.head_dim},
        {"row_bytes", plan.model.head.row_bytes()}}},
      {"interrupted", outcome.interrupted},
      {"seconds", outcome.done.seconds},
      {"operations", latency.count()},
      {"rows", outcome.done.rows},
      {"bytes", outcome.done.bytes},
      {"operations_per_second", outcome.operations_per_second},
      {"rows_per_second", outcome.rows_per_second},
      {"bytes_per_second", outcome.bytes_per_second},
      {"latency_seconds",
       {{"mean", OrNull(latency.mean_seconds())},
        {"p50", OrNull(latency.Quantile(0.5))},
        {"p90", OrNull(latency.Quantile(0.9))},
        {"p99", OrNull(latency.Quantile(0.99))},
        {"p99_9", OrNull(latency.Quantile(0.999))},
        {"max", latency.count() == 0 ? Json() : Json(latency.max_seconds())}}},
      {"verified_bytes", plan.verify ? Json(outcome.done.verified_bytes) : Json()},
  };
  fmt::print("{}\n", json.dump(2));
}

}  // namespace passband::bench
