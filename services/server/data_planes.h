// DataPlanes: the ways that rows travel, each of which a server may have: UCX, gRPC.
//
// Threads    safe after Start; Start and Stop on one thread.
// Ownership  owns them; store, tables and counters must outlive it.
// Errors     of Start: those of the planes.
#pragma once

#include <memory>

#include "services/server/data_plane.h"
#include "services/server/grpc_data_plane.h"
#include "services/server/settings.h"

namespace passband::server {

class DataPlanes {
 public:
  // How many data threads the settings' planes have together: what Counters are made for.
  static size_t Threads(const Settings& settings);
  static StatusOr<std::unique_ptr<DataPlanes>> Start(const Settings& settings, Store& store,
                                                     SessionTable& sessions,
                                                     const ProfileTable& profiles,
                                                     SliceCache& slices, Counters& counters);
  DataPlanes(const DataPlanes&) = delete;
  DataPlanes& operator=(const DataPlanes&) = delete;

  // Null: not served.
  const DataPlane* ucx() const { return ucx_.get(); }
  GrpcDataPlane* grpc() const { return grpc_.get(); }
  const DataLimits& limits() const;
  // As the log names them.
  std::string names() const;

  void CloseSession(const Session& session);
  // Refuses new requests and waits until those under way are answered. False: some were not.
  bool Drain(Time deadline);

 private:
  DataPlanes() = default;

  std::unique_ptr<DataPlane> ucx_;
  std::unique_ptr<GrpcDataPlane> grpc_;
};

}  // namespace passband::server
