// GrpcDataPlane: the data plane over gRPC: its threads, and the service that feeds them.
//
// Threads    safe after Start; Start and Stop on one thread.
// Ownership  owns its threads; store, tables and counters must outlive it. The gRPC server that
//            serves it ends before it does.
// Errors     of Start: those of the memory it takes.
#pragma once

#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "services/server/data_limits.h"
#include "services/server/grpc_data_service.h"

namespace passband::server {

class GrpcDataPlane {
 public:
  struct Options {
    size_t threads = 1;
    uint64_t staging_bytes = 0;  // of each thread; bounds the size of a reply
    bool huge_pages = true;
    bool tls = false;
    size_t first_counters = 0;  // which of Counters' are its threads'
  };

  static StatusOr<std::unique_ptr<GrpcDataPlane>> Start(const Options& options, Store& store,
                                                        SessionTable& sessions,
                                                        const ProfileTable& profiles,
                                                        SliceCache& slices, Counters& counters);
  GrpcDataPlane(const GrpcDataPlane&) = delete;
  GrpcDataPlane& operator=(const GrpcDataPlane&) = delete;

  grpc::Service& service() { return *service_; }
  const DataLimits& limits() const { return limits_; }

  void CloseSession(const Session& session);
  // Refuses new requests and waits until those under way are answered. False: some were not.
  bool Drain(Time deadline);

 private:
  GrpcDataPlane() = default;

  DataLimits limits_;
  std::vector<std::unique_ptr<GrpcDataThread>> threads_;
  std::unique_ptr<GrpcDataService> service_;
};

}  // namespace passband::server
