#include "services/cli/top/warnings.h"

#include <algorithm>

#include "base/units.h"
#include "services/cli/top/server_tick.h"

namespace passband::top {
namespace {

constexpr double kNearlyFull = 0.95;

class Collector {
 public:
  Collector(const MetricPage& before, const MetricPage& now, const ServerTick& tick)
      : before_(before), now_(now), tick_(tick) {}

  // Bytes were lost or may be.
  void Damage() {
    if (const double count = now_.Sum("passband_checksum_failures_total"); count > 0) {
      Add("{:.0f} reads of the disk came back damaged since the start: is the disk well?", count);
    }
    if (const double count = now_.Sum("passband_lost_blocks_total"); count > 0) {
      Add("{:.0f} blocks were damaged or gone since the start; their rows are DATA_LOSS", count);
    }
    if (const double count = now_.Sum("passband_damaged_records"); count > 0) {
      Add("{:.0f} records of the spill directory cannot be read; stop it and run passband verify",
          count);
    }
    if (tick_.has_disk && now_.Sum("passband_spill_healthy") == 0) {
      Add("the disk fails or is full: RAM is all there is for new rows; see the server's log");
    }
  }

  void Life() {
    if (tick_.restarted) Add("it was started again between two looks");
    if (tick_.draining) {
      Add("draining: it takes nothing new until it is started again");
    } else if (!tick_.ready) {
      Add("not ready yet");
    }
  }

  void Refusals() {
    if (const double count = Grown("passband_allocation_failures_total"); count > 0) {
      Add("{:.0f} blocks found no free RAM: {}", count,
          tick_.has_disk ? "the disk does not keep up" : "give it more --ram, or a --spill-dir");
    }
    for (const TrafficRate& rate : tick_.traffic) {
      if (rate.transport.empty() && rate.failed_per_second > 0) {
        Add("{:.1f} of {:.1f} {} requests a second failed: {}", rate.failed_per_second,
            rate.requests_per_second, rate.method, Results(rate.method));
      }
    }
    for (const MetricPage::Sample& sample : now_.of("passband_transport_errors_total")) {
      const auto reason = sample.labels.find("reason");
      if (reason == sample.labels.end()) continue;
      const double count = Grown("passband_transport_errors_total", sample.labels);
      if (count > 0) Add("{:.0f} messages or connections went wrong: {}", count, reason->second);
    }
    for (const TenantUse& tenant : tick_.tenants) {
      if (tenant.rejections_per_second > 0) {
        Add("tenant {} is refused for its quota, {:.1f} times a second", tenant.name,
            tenant.rejections_per_second);
      } else if (static_cast<double>(tenant.bytes) > kNearlyFull * tenant.quota_bytes ||
                 static_cast<double>(tenant.sequences) > kNearlyFull * tenant.quota_sequences) {
        Add("tenant {} has nearly all that its quota allows", tenant.name);
      }
    }
  }

  void Fullness() {
    const uint64_t held = tick_.used_bytes - tick_.cached_bytes;
    if (!tick_.has_disk && Full(held, tick_.capacity_bytes)) {
      Add("sequences fill {} of {}: appends will soon be refused",
          FormatBytes(static_cast<double>(held)),
          FormatBytes(static_cast<double>(tick_.capacity_bytes)));
    }
    if (tick_.has_disk && Full(tick_.disk_bytes, tick_.disk_capacity_bytes)) {
      Add("the spill directory holds {} of {}", FormatBytes(static_cast<double>(tick_.disk_bytes)),
          FormatBytes(static_cast<double>(tick_.disk_capacity_bytes)));
    }
    if (Full(tick_.staging_bytes, tick_.staging_capacity_bytes)) {
      Add("memory for replies is full: workers take them too slowly, or --staging is too small");
    }
    const double open = now_.Sum("process_open_fds"), most = now_.Sum("process_max_fds");
    if (most > 0 && open > kNearlyFull * most) {
      Add("{:.0f} of {:.0f} file descriptors are open: raise the limit", open, most);
    }
  }

  std::vector<std::string> Take() { return std::move(warnings_); }

 private:
  template <typename... Args>
  void Add(fmt::format_string<Args...> text, Args&&... args) {
    warnings_.push_back(fmt::format(text, std::forward<Args>(args)...));
  }
  static bool Full(uint64_t used, uint64_t capacity) {
    return capacity > 0 && static_cast<double>(used) > kNearlyFull * static_cast<double>(capacity);
  }
  double Grown(const std::string& name, const MetricPage::Labels& labels = {}) const {
    const double then = tick_.restarted ? 0 : before_.Sum(name, labels);
    return std::max(0.0, now_.Sum(name, labels) - then);
  }
  // "not_found, data_loss"
  std::string Results(const std::string& method) const {
    std::string out;
    for (const std::string& result : now_.LabelValues("passband_requests_total", "result")) {
      if (result == "ok") continue;
      if (!(Grown("passband_requests_total", {{"method", method}, {"result", result}}) > 0)) {
        continue;
      }
      out += (out.empty() ? "" : ", ") + result;
    }
    return out;
  }

  const MetricPage& before_;
  const MetricPage& now_;
  const ServerTick& tick_;
  std::vector<std::string> warnings_;
};

}  // namespace

std::vector<std::string> WarningsOf(const MetricPage& before, const MetricPage& now,
                                    const ServerTick& tick) {
  Collector collector(before, now, tick);
  collector.Damage();
  collector.Life();
  collector.Refusals();
  collector.Fullness();
  return collector.Take();
}

}  // namespace passband::top
