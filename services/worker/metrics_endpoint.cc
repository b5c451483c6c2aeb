#include "services/worker/metrics_endpoint.h"

#include <httplib.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <atomic>
#include <charconv>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/thread.h"

namespace passband {
namespace {

using prometheus::MetricType;

constexpr size_t kServingThreads = 1;

class Exposition {
 public:
  using Labels = std::vector<prometheus::ClientMetric::Label>;

  Exposition& Start(MetricType type, const char* name, const char* help) {
    families_.push_back({.name = name, .help = help, .type = type, .metric = {}});
    return *this;
  }
  Exposition& Value(double value, Labels labels = {}) {
    prometheus::ClientMetric& metric = families_.back().metric.emplace_back();
    metric.label = std::move(labels);
    if (families_.back().type == MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
    return *this;
  }
  Exposition& Value(uint64_t value, Labels labels = {}) {
    return Value(static_cast<double>(value), std::move(labels));
  }
  std::string Text() const {
    std::ostringstream out;
    prometheus::TextSerializer().Serialize(out, families_);
    return out.str();
  }

 private:
  std::vector<prometheus::MetricFamily> families_;
};

void AddHeld(const MetricsEndpoint::Snapshot& now, Exposition& out) {
  const MemoryReport& memory = now.memory;
  out.Start(MetricType::Gauge, "passband_worker_sequences", "Sequences that it decodes")
      .Value(now.sequences);
  out.Start(MetricType::Gauge, "passband_worker_context_tokens", "Tokens of all of them")
      .Value(memory.tokens);
  out.Start(MetricType::Gauge, "passband_worker_held_bytes", "Memory of a worker, by what is in it")
      .Value(memory.slice_bytes, {{"kind", "slices"}})
      .Value(memory.hot_row_bytes, {{"kind", "hot_rows"}})
      .Value(memory.tail_bytes, {{"kind", "tail"}});
  out.Start(MetricType::Gauge, "passband_worker_full_kv_bytes",
            "What it would hold with full keys and values")
      .Value(memory.full_kv_bytes);
}

void AddMoved(const MetricsEndpoint::Snapshot& now, Exposition& out) {
  const EngineStats& steps = now.steps;
  const auto counter = [&out](const char* name, const char* help) -> Exposition& {
    return out.Start(MetricType::Counter, name, help);
  };
  counter("passband_worker_decoded_tokens_total", "Tokens decoded").Value(now.decoded_tokens);
  counter("passband_worker_decode_seconds_total", "Time that took, the model included")
      .Value(now.decode_seconds);
  counter("passband_worker_phase_seconds_total", "Of it, in attention, by phase")
      .Value(steps.tip_seconds, {{"phase", "tip"}})
      .Value(steps.select_seconds, {{"phase", "select"}})
      .Value(steps.cache_seconds, {{"phase", "cache"}})
      .Value(steps.fetch_seconds, {{"phase", "fetch"}})
      .Value(steps.fac_seconds, {{"phase", "fac"}});
  counter("passband_worker_rows_total", "Selected rows, by where they came from")
      .Value(steps.tail_rows, {{"source", "tail"}})
      .Value(steps.hot_rows, {{"source", "hot"}})
      .Value(steps.fetched_rows, {{"source", "fetched"}});
  counter("passband_worker_fetched_bytes_total", "Rows fetched from the service")
      .Value(steps.fetched_bytes);
  counter("passband_worker_full_attention_bytes_total",
          "What attention over every token would have read")
      .Value(steps.full_attention_bytes);
}

std::string Text(const MetricsEndpoint::Identity& identity, const MetricsEndpoint::Snapshot& now) {
  Exposition out;
  out.Start(MetricType::Gauge, "passband_worker_info", "What a worker runs; always 1")
      .Value(1.0, {{"model", identity.model},
                   {"method", identity.method},
                   {"transport", identity.transport}});
  AddHeld(now, out);
  AddMoved(now, out);
  return out.Text();
}

}  // namespace

struct MetricsEndpoint::Impl {
  Identity identity;
  Mutex mutex;
  Snapshot snapshot ABSL_GUARDED_BY(mutex);
  httplib::Server server;
  int port = 0;
  std::atomic<bool> ended{false};
  std::jthread thread;
};

StatusOr<MetricsEndpoint::Address> MetricsEndpoint::Parse(const std::string& text) {
  Address address;
  const size_t colon = text.rfind(':');
  const std::string port = colon == std::string::npos ? "" : text.substr(colon + 1);
  const char* const end = port.data() + port.size();
  const auto [stop, error] = std::from_chars(port.data(), end, address.port);
  if (port.empty() || colon == 0 || error != std::errc() || stop != end) {
    return Error(StatusCode::kInvalidArgument,
                 "'{}': give HOST:PORT, as in 0.0.0.0:9462; port 0 is any free one", text);
  }
  address.host = text.substr(0, colon);
  return address;
}

StatusOr<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::Start(const std::string& text,
                                                                  Identity identity) {
  PASSBAND_ASSIGN_OR_RETURN(const Address address, Parse(text));
  auto impl = std::make_unique<Impl>();
  impl->identity = std::move(identity);
  impl->server.new_task_queue = [] { return new httplib::ThreadPool(kServingThreads); };
  impl->server.set_keep_alive_timeout(1);
  impl->server.Get("/metrics", [raw = impl.get()](const auto&, httplib::Response& response) {
    Snapshot snapshot;
    {
      const MutexLock lock(raw->mutex);
      snapshot = raw->snapshot;
    }
    response.set_content(Text(raw->identity, snapshot), "text/plain; version=0.0.4; charset=utf-8");
  });
  impl->port = address.port != 0
                   ? (impl->server.bind_to_port(address.host, address.port) ? address.port : -1)
                   : impl->server.bind_to_any_port(address.host);
  if (impl->port <= 0) {
    return Error(StatusCode::kUnavailable,
                 "--metrics: cannot listen on {}: is the port taken? Choose another, or 0 for any",
                 text);
  }
  impl->thread = StartThread("passband-metrics", [raw = impl.get()](const std::stop_token&) {
    raw->server.listen_after_bind();
    raw->ended = true;
  });
  return std::unique_ptr<MetricsEndpoint>(new MetricsEndpoint(std::move(impl)));
}

MetricsEndpoint::MetricsEndpoint(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

MetricsEndpoint::~MetricsEndpoint() {
  // Before it runs, stop() does nothing, and the thread would serve for ever.
  while (!impl_->server.is_running() && !impl_->ended) std::this_thread::yield();
  impl_->server.stop();
}

void MetricsEndpoint::Publish(const Snapshot& snapshot) {
  const MutexLock lock(impl_->mutex);
  impl_->snapshot = snapshot;
}

uint16_t MetricsEndpoint::port() const { return static_cast<uint16_t>(impl_->port); }

}  // namespace passband
