#include "services/cli/top/server_tick.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>

#include "services/cli/top/warnings.h"

namespace passband::top {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr std::array<const char*, 4> kMethods = {"fetch", "append", "slices", "read"};

double Share(double part, double whole) { return whole > 0 ? part / whole : kNone; }

uint64_t Whole(double value) {
  return value > 0 && value < 0x1p63 ? static_cast<uint64_t>(value) : 0;
}

// A counter's bytes of one method; the metrics of fetch and append tell them by transport.
struct ByteMetric {
  const char* name;
  bool by_transport;
};
ByteMetric BytesOf(const std::string& method) {
  if (method == "fetch") return {"passband_fetched_bytes_total", true};
  if (method == "append") return {"passband_appended_bytes_total", true};
  if (method == "slices") return {"passband_slice_bytes_total", false};
  return {"passband_read_bytes_total", false};
}

class TickMaker {
 public:
  TickMaker(const Look& before, const Look& now, ServerTick& out)
      : before_(before.page), now_(now.page), out_(out) {
    out_.seconds = std::max(0.0, now.at_seconds - before.at_seconds);
    out_.restarted =
        now_.Sum("process_start_time_seconds") != before_.Sum("process_start_time_seconds");
  }

  void Make() {
    AddServer();
    AddShares();
    for (const char* method : kMethods) AddMethod(method);
    AddMemory();
    AddWho();
    out_.warnings = WarningsOf(before_, now_, out_);
  }

 private:
  using Labels = MetricPage::Labels;

  // What a counter grew by; a new start counts from zero.
  double Grown(const std::string& name, const Labels& labels = {}) const {
    const double value = now_.Sum(name, labels);
    const double then = out_.restarted ? 0 : before_.Sum(name, labels);
    return std::max(0.0, value - then);
  }
  double Rate(const std::string& name, const Labels& labels = {}) const {
    return out_.seconds > 0 ? Grown(name, labels) / out_.seconds : 0;
  }
  uint64_t Value(const std::string& name, const Labels& labels = {}) const {
    return Whole(now_.Sum(name, labels));
  }

  void AddServer() {
    const auto info = now_.of("passband_build_info");
    if (const auto version = info.front().labels.find("version");
        version != info.front().labels.end()) {
      out_.version = version->second;
    }
    const double started = now_.Sum("process_start_time_seconds");
    const std::chrono::duration<double> since_epoch =
        std::chrono::system_clock::now().time_since_epoch();
    out_.uptime_seconds = started > 0 ? std::max(0.0, since_epoch.count() - started) : 0;
    out_.ready = now_.Sum("passband_ready") > 0;
    out_.draining = now_.Sum("passband_draining") > 0;
    out_.cpu_cores = Rate("process_cpu_seconds_total");
    out_.resident_bytes = Value("process_resident_memory_bytes");
  }

  void AddShares() {
    out_.saved_now = {Grown("passband_fetched_bytes_total"),
                      Grown("passband_full_attention_bytes_total")};
    out_.saved_since_start = {now_.Sum("passband_fetched_bytes_total"),
                              now_.Sum("passband_full_attention_bytes_total")};
    out_.hot_row_share =
        Share(Grown("passband_hot_rows_total"), Grown("passband_selected_rows_total"));
    out_.prefix_hit_share = Share(Grown("passband_prefix_hit_tokens_total"),
                                  Grown("passband_prefix_lookup_tokens_total"));
    const double hits = Grown("passband_slice_cache_hits_total");
    out_.slice_hit_share = Share(hits, hits + Grown("passband_slice_cache_misses_total"));
    const double ram = Grown("passband_tier_reads_total", {{"tier", "ram"}});
    out_.ram_read_share = Share(ram, Grown("passband_tier_reads_total"));
  }

  TrafficRate RateOf(const std::string& method, const std::string& transport) const {
    Labels labels = {{"method", method}};
    if (!transport.empty()) labels["transport"] = transport;
    TrafficRate rate{.method = method, .transport = transport};
    const double requests = Rate("passband_requests_total", labels);
    Labels fine = labels;
    fine["result"] = "ok";
    rate.requests_per_second = requests;
    rate.failed_per_second = std::max(0.0, requests - Rate("passband_requests_total", fine));
    const ByteMetric bytes = BytesOf(method);
    if (transport.empty()) {
      rate.rows_per_second = Rate("passband_rows_total", {{"method", method}});
      rate.bytes_per_second = Rate(bytes.name);
    } else {
      rate.rows_per_second = kNone;
      rate.bytes_per_second =
          bytes.by_transport ? Rate(bytes.name, {{"transport", transport}}) : kNone;
    }
    constexpr char kDuration[] = "passband_request_duration_seconds";
    MetricHistogram times = now_.Histogram(kDuration, labels);
    if (!out_.restarted) times = times.Since(before_.Histogram(kDuration, labels));
    rate.p50_seconds = times.Quantile(0.5);
    rate.p90_seconds = times.Quantile(0.9);
    rate.p99_seconds = times.Quantile(0.99);
    return rate;
  }

  void AddMethod(const std::string& method) {
    out_.traffic.push_back(RateOf(method, ""));
    std::vector<std::string> used;
    for (const std::string& transport : now_.LabelValues("passband_requests_total", "transport")) {
      const Labels labels = {{"method", method}, {"transport", transport}};
      if (now_.Sum("passband_requests_total", labels) > 0) used.push_back(transport);
    }
    for (const std::string& transport : used) {
      out_.traffic.push_back(RateOf(method, transport));
    }
  }

  void AddMemory() {
    out_.capacity_bytes = Value("passband_memory_capacity_bytes");
    out_.used_bytes = std::min(Value("passband_memory_used_bytes"), out_.capacity_bytes);
    out_.cached_bytes = std::min(Value("passband_memory_cached_bytes"), out_.used_bytes);
    out_.pinned_bytes = Value("passband_pinned_bytes");
    out_.slice_bytes = Value("passband_slice_cache_bytes");
    out_.slice_capacity_bytes = Value("passband_slice_cache_capacity_bytes");
    out_.staging_bytes = Value("passband_staging_used_bytes");
    out_.staging_capacity_bytes = Value("passband_staging_capacity_bytes");
    out_.has_disk = now_.Has("passband_spill_capacity_bytes");
    out_.disk_capacity_bytes = Value("passband_spill_capacity_bytes");
    out_.disk_bytes = Value("passband_spill_used_bytes");
    out_.both_bytes = Value("passband_block_bytes", {{"tier", "both"}});
    out_.pending_spill_bytes = Value("passband_spill_pending_bytes");
    out_.spill_written_per_second = Rate("passband_spill_bytes_total", {{"direction", "write"}});
    out_.spill_read_per_second = Rate("passband_spill_bytes_total", {{"direction", "read"}});
  }

  void AddWho() {
    out_.sessions = Value("passband_sessions");
    out_.sequences_open = Value("passband_sequences", {{"state", "open"}});
    out_.sequences_sealed = Value("passband_sequences", {{"state", "sealed"}});
    out_.stored_tokens = Value("passband_stored_tokens");
    for (const MetricPage::Sample& sample : now_.of("passband_transport_connections")) {
      const auto transport = sample.labels.find("transport");
      if (transport == sample.labels.end() || !(sample.value > 0)) continue;
      out_.connections.emplace_back(transport->second, Whole(sample.value));
    }
    for (const std::string& name : now_.LabelValues("passband_tenant_bytes", "tenant")) {
      const Labels of = {{"tenant", name}};
      const auto quota = [&](const char* metric) {
        for (const MetricPage::Sample& sample : now_.of(metric)) {
          if (sample.labels == of) return sample.value;
        }
        return kNone;
      };
      out_.tenants.push_back(
          {.name = name,
           .bytes = Value("passband_tenant_bytes", of),
           .ram_bytes = Value("passband_tenant_ram_bytes", of),
           .sequences = Value("passband_tenant_sequences", of),
           .quota_bytes = quota("passband_tenant_quota_bytes"),
           .quota_sequences = quota("passband_tenant_quota_sequences"),
           .rejections_per_second = Rate("passband_tenant_rejections_total", of)});
    }
    std::stable_sort(
        out_.tenants.begin(), out_.tenants.end(),
        [](const TenantUse& a, const TenantUse& b) { return a.ram_bytes > b.ram_bytes; });
  }

  const MetricPage& before_;
  const MetricPage& now_;
  ServerTick& out_;
};

}  // namespace

double Saved::share() const {
  return full_attention_bytes > 0 ? std::max(0.0, 1 - fetched_bytes / full_attention_bytes) : kNone;
}

StatusOr<ServerTick> MakeTick(const Look& before, const Look& now) {
  if (now.page.of("passband_build_info").empty()) {
    return Error(StatusCode::kUnavailable,
                 "these are not the metrics of a passband-server; is it its --http-port?");
  }
  ServerTick tick;
  TickMaker(before, now, tick).Make();
  return tick;
}

}  // namespace passband::top
