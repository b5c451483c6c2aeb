#include <cmath>
#include <sstream>

#include "base/units.h"
#include "services/cli/figures.h"
#include "services/cli/top/tick_report.h"
#include "services/console/table.h"

namespace passband::top {
namespace {

// More would push the rest off a screen; passband ls shows every tenant.
constexpr size_t kTenants = 8;

std::string Time(double seconds) { return std::isnan(seconds) ? "-" : FormatSeconds(seconds); }

std::string State(const ServerTick& tick, const Terminal& terminal) {
  if (tick.draining) return terminal.Yellow("draining");
  return tick.ready ? terminal.Green("ready") : terminal.Yellow("not ready");
}

std::string SavedLine(const ServerTick& tick, const Terminal& terminal) {
  const double now = tick.saved_now.share();
  const double ever = tick.saved_since_start.share();
  if (std::isnan(ever)) {
    return "saved  " + terminal.Bold("-") + "  " +
           terminal.Dim("no worker has reported a decode step yet");
  }
  if (std::isnan(now)) {
    return "saved  " + terminal.Bold("-") + "  " +
           terminal.Dim(fmt::format("no decode step just now; {} since the start", Percent(ever)));
  }
  return fmt::format(
      "saved  {}  {}", terminal.Bold(Percent(now)),
      terminal.Dim(fmt::format("{} fetched where full attention reads {}; {} since the start",
                               ByteRate(tick.saved_now.fetched_bytes / tick.seconds),
                               ByteRate(tick.saved_now.full_attention_bytes / tick.seconds),
                               Percent(ever))));
}

std::string SharesLine(const ServerTick& tick, const Terminal& terminal) {
  std::string line;
  const auto add = [&](const char* name, double share) {
    line += (line.empty() ? "" : "   ") + terminal.Dim(name) + " " + Percent(share);
  };
  add("hot rows", tick.hot_row_share);
  add("prefix hits", tick.prefix_hit_share);
  add("slices at hand", tick.slice_hit_share);
  if (tick.has_disk) add("blocks in RAM", tick.ram_read_share);
  return line;
}

Table Traffic(const ServerTick& tick, const Terminal& terminal) {
  Table table({{"", Align::kLeft},
               {"requests/s", Align::kRight},
               {"rows/s", Align::kRight},
               {"bytes", Align::kRight},
               {"p50", Align::kRight},
               {"p90", Align::kRight},
               {"p99", Align::kRight},
               {"failed/s", Align::kRight}});
  for (const TrafficRate& rate : tick.traffic) {
    const bool all = rate.transport.empty();
    const std::string failed = Rate(rate.failed_per_second);
    table.AddRow({all ? rate.method : "  " + Printable(rate.transport),
                  Rate(rate.requests_per_second), all ? Rate(rate.rows_per_second) : "",
                  std::isnan(rate.bytes_per_second) ? "" : ByteRate(rate.bytes_per_second),
                  Time(rate.p50_seconds), Time(rate.p90_seconds), Time(rate.p99_seconds),
                  rate.failed_per_second > 0 ? terminal.Red(failed) : failed});
  }
  return table;
}

Table Memory(const ServerTick& tick, const Terminal& terminal) {
  Table table({{""}, {"", Align::kRight}, {""}});
  const auto share = [](uint64_t part, uint64_t whole) {
    return whole == 0 ? std::nan("") : static_cast<double>(part) / static_cast<double>(whole);
  };
  table.AddRow({"RAM", Percent(share(tick.used_bytes, tick.capacity_bytes)),
                MemoryBar(tick.used_bytes, tick.cached_bytes, tick.capacity_bytes, terminal)});
  std::string detail =
      fmt::format("{} in sequences, {} cached, {} free, of {}",
                  Bytes(tick.used_bytes - tick.cached_bytes), Bytes(tick.cached_bytes),
                  Bytes(tick.capacity_bytes - tick.used_bytes), Bytes(tick.capacity_bytes));
  if (tick.pinned_bytes > 0) detail += ", " + Bytes(tick.pinned_bytes) + " pinned";
  table.AddRow({"", "", terminal.Dim(detail)});
  if (tick.has_disk) {
    table.AddRow(
        {"disk", Percent(share(tick.disk_bytes, tick.disk_capacity_bytes)),
         fmt::format("{} of {}, {} of it in RAM, too; {} written, {} read, {} to be written",
                     Bytes(tick.disk_bytes), Bytes(tick.disk_capacity_bytes),
                     Bytes(tick.both_bytes), ByteRate(tick.spill_written_per_second),
                     ByteRate(tick.spill_read_per_second), Bytes(tick.pending_spill_bytes))});
  }
  table.AddRow({"slices", Percent(share(tick.slice_bytes, tick.slice_capacity_bytes)),
                terminal.Dim(fmt::format("{} encoded, of {}", Bytes(tick.slice_bytes),
                                         Bytes(tick.slice_capacity_bytes)))});
  table.AddRow({"replies", Percent(share(tick.staging_bytes, tick.staging_capacity_bytes)),
                terminal.Dim(fmt::format("{} under way, of {}", Bytes(tick.staging_bytes),
                                         Bytes(tick.staging_capacity_bytes)))});
  return table;
}

std::string WhoLine(const ServerTick& tick) {
  std::string over;
  for (const auto& [transport, count] : tick.connections) {
    over +=
        fmt::format("{}{} {}", over.empty() ? "" : ", ", FormatCount(count), Printable(transport));
  }
  return fmt::format("{}{}   {} open and {} sealed sequences of {} tokens   {:.1f} cores",
                     Counted(tick.sessions, "session"), over.empty() ? "" : " (" + over + ")",
                     FormatCount(tick.sequences_open), FormatCount(tick.sequences_sealed),
                     FormatCount(tick.stored_tokens), tick.cpu_cores);
}

Table Tenants(const ServerTick& tick, const Terminal& terminal) {
  Table table({{"tenant"},
               {"in RAM", Align::kRight},
               {"held", Align::kRight},
               {"quota", Align::kRight},
               {"sequences", Align::kRight},
               {"refused/s", Align::kRight}});
  for (size_t i = 0; i < std::min(kTenants, tick.tenants.size()); ++i) {
    const TenantUse& use = tick.tenants[i];
    const std::string refused = Rate(use.rejections_per_second);
    table.AddRow({Printable(use.name), Bytes(use.ram_bytes), Bytes(use.bytes),
                  std::isnan(use.quota_bytes) ? "-" : FormatBytes(use.quota_bytes),
                  FormatCount(use.sequences),
                  use.rejections_per_second > 0 ? terminal.Red(refused) : refused});
  }
  if (tick.tenants.size() > kTenants) {
    table.AddRow({terminal.Dim(fmt::format("and {} more", tick.tenants.size() - kTenants))});
  }
  return table;
}

void AddLines(const std::string& text, std::vector<std::string>& lines) {
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
}

}  // namespace

std::vector<std::string> TickScreen(const ServerTick& tick, const std::string& server,
                                    const Terminal& terminal) {
  std::vector<std::string> lines;
  lines.push_back(fmt::format("passband-server {} at {}, up {}: {}", Printable(tick.version),
                              server, FormatSpan(tick.uptime_seconds), State(tick, terminal)));
  lines.push_back(SavedLine(tick, terminal));
  lines.push_back(SharesLine(tick, terminal));
  for (const std::string& warning : tick.warnings) {
    lines.push_back(terminal.Red("! ") + Printable(warning));
  }
  lines.emplace_back();
  AddLines(Traffic(tick, terminal).Text(terminal), lines);
  lines.emplace_back();
  AddLines(Memory(tick, terminal).Text(terminal), lines);
  lines.emplace_back();
  lines.push_back(WhoLine(tick));
  if (!tick.tenants.empty()) AddLines(Tenants(tick, terminal).Text(terminal), lines);
  return lines;
}

std::string TickLine(const ServerTick& tick) {
  std::string line = "saved " + Percent(tick.saved_now.share());
  for (const TrafficRate& rate : tick.traffic) {
    if (!rate.transport.empty()) continue;
    line += fmt::format("  {} {}/s", rate.method, Rate(rate.requests_per_second));
    if (rate.requests_per_second == 0) continue;
    line += fmt::format(" {} rows/s {} p50 {} p99 {}", Rate(rate.rows_per_second),
                        ByteRate(rate.bytes_per_second), Time(rate.p50_seconds),
                        Time(rate.p99_seconds));
  }
  line += fmt::format("  RAM {} of {}", Bytes(tick.used_bytes), Bytes(tick.capacity_bytes));
  if (tick.has_disk) line += "  disk " + Bytes(tick.disk_bytes);
  line += "  " + Counted(tick.sessions, "session") + "  " +
          Counted(tick.sequences_open + tick.sequences_sealed, "sequence");
  if (!tick.warnings.empty()) {
    line +=
        "  " + Counted(tick.warnings.size(), "warning") + ": " + Printable(tick.warnings.front());
  }
  return line;
}

}  // namespace passband::top
