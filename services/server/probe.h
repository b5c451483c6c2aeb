// Probe: every metric the server has, by name. Dashboards and docs are checked against probe.cc.
//
// Units      in the names: _bytes, _seconds, _total.
// Threads    safe; sums counters when asked, and takes no lock of the data plane.
// Ownership  everything in Sources must outlive it.
#pragma once

#include <prometheus/collectable.h>

#include <string>
#include <vector>

#include "kvstore/spill_database.h"
#include "kvstore/store.h"
#include "services/server/counters.h"
#include "services/server/lifecycle.h"
#include "services/server/metric_families.h"
#include "services/server/rpc_counters.h"
#include "services/server/session_table.h"
#include "services/server/slice_cache.h"
#include "services/server/tls_watch.h"

namespace passband::server {

class Probe final : public prometheus::Collectable {
 public:
  struct Sources {
    const Store& store;
    const SpillDatabase* spill;  // null without one
    const SliceCache& slices;
    const SessionTable& sessions;
    const Counters& counters;
    const RpcCounters& rpcs;
    const Lifecycle& lifecycle;
    const TlsWatch* tls;  // null without TLS
  };

  explicit Probe(const Sources& sources) : sources_(sources) {}

  std::vector<prometheus::MetricFamily> Collect() const override;
  // The same in Prometheus's text format.
  std::string Text() const;

 private:
  void AddServer(MetricFamilies& out) const;
  void AddTls(MetricFamilies& out) const;
  void AddStore(MetricFamilies& out) const;
  void AddTenants(MetricFamilies& out) const;
  void AddSpill(MetricFamilies& out) const;
  void AddSliceCache(MetricFamilies& out) const;
  void AddSessions(MetricFamilies& out) const;
  void AddCalls(MetricFamilies& out) const;
  void AddRequests(MetricFamilies& out) const;
  void AddBytes(MetricFamilies& out) const;
  void AddTransport(MetricFamilies& out) const;
  void AddProcess(MetricFamilies& out) const;

  const Sources sources_;
};

}  // namespace passband::server
