// DataPlane: the data plane over UCX: its threads, and what they share: the UCX context and the registered arena.
//
// Threads    safe after Start; Start and Stop on one thread.
// Ownership  owns its threads; store, tables and counters must outlive it.
// Errors     of Start: those of UCX, with the setting to change.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "services/server/data_thread.h"
#include "transport/ucx_context.h"
#include "transport/ucx_memory.h"

namespace passband::server {

class DataPlane {
 public:
  struct Options {
    transport::UcxOptions ucx;
    size_t threads = 1;
    uint64_t staging_bytes = 0;  // of each thread; bounds the size of a reply
    bool huge_pages = true;
  };

  static StatusOr<std::unique_ptr<DataPlane>> Start(const Options& options, Store& store,
                                                    SessionTable& sessions,
                                                    const ProfileTable& profiles,
                                                    SliceCache& slices, Counters& counters);
  DataPlane(const DataPlane&) = delete;
  DataPlane& operator=(const DataPlane&) = delete;

  // The worker address for sessions of a data thread.
  std::span<const std::byte> address(size_t thread) const { return threads_[thread]->address(); }
  const DataLimits& limits() const { return limits_; }
  const std::string& transports() const { return ucx_->tls(); }

  void CloseSession(const Session& session);
  // Refuses new requests and waits until those under way are answered. False: some were not.
  bool Drain(Time deadline);

 private:
  DataPlane() = default;

  DataLimits limits_;
  std::shared_ptr<transport::UcxContext> ucx_;
  std::unique_ptr<transport::UcxMemory> arena_;
  std::vector<std::unique_ptr<DataThread>> threads_;  // Last: they use the rest.
};

}  // namespace passband::server
