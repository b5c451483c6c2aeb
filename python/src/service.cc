#include "src/service.h"

#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <tuple>

#include "base/units.h"
#include "sdk/embedded/embedded_service.h"
#include "sdk/remote_service.h"
#include "src/arrays.h"

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace passband::python {
namespace {

std::chrono::milliseconds Milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

std::unique_ptr<Service> Connect(const std::string& address, const std::string& tenant,
                                 const std::string& name, double connect_timeout,
                                 double control_timeout, double data_timeout,
                                 const std::string& transports, const std::string& net_devices,
                                 const std::string& data_plane, const std::string& tls_ca,
                                 const std::string& tls_certificate, const std::string& tls_key,
                                 const std::string& tls_server_name, uint64_t landing_bytes,
                                 bool verify_checksums) {
  RemoteOptions options;
  options.control_address = address;
  options.tenant = tenant;
  options.client = name;
  options.connect_timeout = Milliseconds(connect_timeout);
  options.control_timeout = Milliseconds(control_timeout);
  options.data_timeout = Milliseconds(data_timeout);
  options.transports = transports;
  options.net_devices = net_devices;
  options.data_plane = data_plane;
  options.tls = {tls_ca, tls_certificate, tls_key};
  options.tls_server_name = tls_server_name;
  options.landing_bytes = landing_bytes;
  options.verify_checksums = verify_checksums;
  const nb::gil_scoped_release others;
  return std::make_unique<Service>(Take(RemoteService::Connect(options)));
}

std::unique_ptr<Service> Embedded(uint64_t ram_bytes, const std::string& tenant, double ttl,
                                  uint64_t pin_limit) {
  EmbeddedOptions options;
  options.ram_bytes = ram_bytes;
  options.tenant = tenant;
  options.sequence_ttl = Milliseconds(ttl);
  options.pin_limit_bytes = pin_limit;
  const nb::gil_scoped_release others;
  return std::make_unique<Service>(Take(EmbeddedService::Create(options)));
}

std::tuple<uint64_t, uint64_t> Open(const Service& service, const std::string& model,
                                    nb::handle token_ids, bool share_prefix, uint64_t max_tokens,
                                    double ttl) {
  OpenParams params{.model = model,
                    .token_ids = ViewTokens(token_ids, "token_ids"),
                    .share_prefix = share_prefix,
                    .max_tokens = max_tokens,
                    .ttl = Milliseconds(ttl)};
  const auto held = service.Get();
  const nb::gil_scoped_release others;
  const OpenedSequence opened = Take(held->Open(params));
  return {opened.id.value(), opened.matched_tokens};
}

void Extend(const Service& service, uint64_t sequence, uint64_t first, nb::handle token_ids) {
  const auto ids = ViewTokens(token_ids, "token_ids");
  const auto held = service.Get();
  const nb::gil_scoped_release others;
  Check(held->Extend(SequenceId(sequence), first, ids));
}

uint64_t Lookup(const Service& service, const std::string& model, nb::handle token_ids) {
  const auto ids = ViewTokens(token_ids, "token_ids");
  const auto held = service.Get();
  const nb::gil_scoped_release others;
  return Take(held->Lookup(model, ids));
}

// A call with a sequence that ends in a Status, or a value.
template <typename Call>
auto WithSequence(Call call) {
  return [call](const Service& service, uint64_t sequence) {
    const auto held = service.Get();
    const nb::gil_scoped_release others;
    return call(*held, SequenceId(sequence));
  };
}

void BindValues(nb::module_& module) {
  nb::class_<SequenceStat>(module, "SequenceStat")
      .def_prop_ro("id", [](const SequenceStat& stat) { return stat.id.value(); })
      .def_ro("tenant", &SequenceStat::tenant)
      .def_ro("model", &SequenceStat::model)
      .def_ro("sealed", &SequenceStat::sealed)
      .def_ro("committed_tokens", &SequenceStat::committed_tokens)
      .def_ro("known_tokens", &SequenceStat::known_tokens)
      .def_ro("shared_tokens", &SequenceStat::shared_tokens)
      .def_ro("resident_bytes", &SequenceStat::resident_bytes)
      .def_ro("idle_seconds", &SequenceStat::idle_seconds)
      .def_prop_ro(
          "ttl",
          [](const SequenceStat& stat) { return std::chrono::duration<double>(stat.ttl).count(); })
      .def_prop_ro("pinned_for", [](const SequenceStat& stat) {
        return std::chrono::duration<double>(stat.pinned_for).count();
      });
  nb::class_<TrafficStats>(module, "Traffic")
      .def_ro("fetch_requests", &TrafficStats::fetch_requests)
      .def_ro("fetched_rows", &TrafficStats::fetched_rows)
      .def_ro("fetched_bytes", &TrafficStats::fetched_bytes)
      .def_ro("appended_bytes", &TrafficStats::appended_bytes)
      .def_ro("read_bytes", &TrafficStats::read_bytes)
      .def_ro("slice_bytes", &TrafficStats::slice_bytes)
      .def_ro("fetch_wait_seconds", &TrafficStats::fetch_wait_seconds);
}

void BindSequenceCalls(nb::class_<Service>& service) {
  service
      .def("open", &Open, "model"_a, "token_ids"_a.none(), "share_prefix"_a, "max_tokens"_a,
           "ttl"_a)
      .def("extend", &Extend, "sequence"_a, "first"_a, "token_ids"_a.none())
      .def("lookup", &Lookup, "model"_a, "token_ids"_a.none())
      .def(
          "fork",
          [](const Service& self, uint64_t sequence, uint64_t tokens) {
            const auto held = self.Get();
            const nb::gil_scoped_release others;
            return Take(held->Fork(SequenceId(sequence), tokens)).value();
          },
          "sequence"_a, "tokens"_a)
      .def(
          "truncate",
          [](const Service& self, uint64_t sequence, uint64_t tokens) {
            const auto held = self.Get();
            const nb::gil_scoped_release others;
            Check(held->Truncate(SequenceId(sequence), tokens));
          },
          "sequence"_a, "tokens"_a)
      .def(
          "pin",
          [](const Service& self, uint64_t sequence, double seconds) {
            const auto held = self.Get();
            const nb::gil_scoped_release others;
            Check(held->Pin(SequenceId(sequence), Milliseconds(seconds)));
          },
          "sequence"_a, "seconds"_a)
      .def("seal", WithSequence([](KvService& to, SequenceId id) { Check(to.Seal(id)); }),
           "sequence"_a)
      .def("unpin", WithSequence([](KvService& to, SequenceId id) { Check(to.Unpin(id)); }),
           "sequence"_a)
      .def("close_sequence",
           WithSequence([](KvService& to, SequenceId id) { Check(to.Close(id)); }), "sequence"_a)
      .def("flush", WithSequence([](KvService& to, SequenceId id) { Check(to.Flush(id)); }),
           "sequence"_a)
      .def("stat", WithSequence([](KvService& to, SequenceId id) { return Take(to.Stat(id)); }),
           "sequence"_a)
      .def(
          "list",
          [](const Service& self, uint64_t after, uint32_t limit) {
            const auto held = self.Get();
            const nb::gil_scoped_release others;
            return Take(held->List(SequenceId(after), limit));
          },
          "after"_a, "limit"_a);
}

}  // namespace

std::shared_ptr<KvService> Service::Get() const {
  home_.Check();
  const std::lock_guard lock(mutex_);
  if (!service_) {
    throw StatusError(Error(StatusCode::kFailedPrecondition, "the client is closed"),
                      Reason::kClosed);
  }
  return service_;
}

bool Service::closed() const {
  const std::lock_guard lock(mutex_);
  return !service_;
}

void Service::Close() {
  // A fork's child may have inherited the mutex locked.
  if (!home_.here()) return;
  std::shared_ptr<KvService> last;
  {
    const std::lock_guard lock(mutex_);
    last = std::move(service_);
  }
}

void BindService(nb::module_& module) {
  BindValues(module);
  BindModel(module);
  module.def(
      "parse_bytes", [](const std::string& text) { return Take(ParseBytes(text)); }, "text"_a);
  nb::class_<Service> service(module, "Service");
  service
      .def_static("connect", &Connect, "address"_a, "tenant"_a, "name"_a, "connect_timeout"_a,
                  "control_timeout"_a, "data_timeout"_a, "transports"_a, "net_devices"_a,
                  "data_plane"_a, "tls_ca"_a, "tls_certificate"_a, "tls_key"_a, "tls_server_name"_a,
                  "landing_bytes"_a, "verify_checksums"_a)
      .def_static("embedded", &Embedded, "ram_bytes"_a, "tenant"_a, "ttl"_a, "pin_limit"_a)
      .def("close", &Service::Close, nb::call_guard<nb::gil_scoped_release>())
      .def_prop_ro("closed", &Service::closed)
      .def("transport",
           [](const Service& self) {
             const auto held = self.Get();
             const nb::gil_scoped_release others;
             return held->transport();
           })
      .def("traffic",
           [](const Service& self) {
             const auto held = self.Get();
             const nb::gil_scoped_release others;
             return held->traffic();
           })
      .def(
          "register_model",
          [](const Service& self, const ModelInfo& model) {
            const auto held = self.Get();
            const nb::gil_scoped_release others;
            Check(held->RegisterModel(model));
          },
          "model"_a);
  BindSequenceCalls(service);
  BindRowCalls(service);
}

}  // namespace passband::python
