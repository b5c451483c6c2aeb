// Peer: a server in a process of its own, filled with a Workload's rows, and a
// connection to it.
//
// A reply's bytes are contiguous, in the order asked for, and live until the next call.
//
// Threads    one at a time.
// Ownership  the destructor ends the server.
// Errors     what the peer said; kDataLoss when a reply has not the size asked for.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "bench/peers/workload.h"

namespace passband::bench {

inline constexpr int kServerCpu = 0;

enum class Link { kTcp, kLocal };  // Loopback; UNIX socket or shared memory.

class Peer {
 public:
  virtual ~Peer() = default;

  virtual std::string name() const = 0;
  virtual std::string link() const = 0;
  // The commands with which rows can be gathered.
  virtual std::vector<std::string> gathers() const = 0;

  virtual Status Fill() = 0;
  virtual StatusOr<std::span<const std::byte>> Gather(size_t which,
                                                      const GatherRequest& request) = 0;
  // kValueBytes, stored when it returns.
  virtual Status Put(uint32_t value, std::span<const std::byte> bytes) = 0;
  virtual StatusOr<std::span<const std::byte>> Get(uint32_t value) = 0;
  // Whether a Get() gave what was put.
  virtual bool IsValue(std::span<const std::byte> got, std::span<const std::byte> put) const {
    return got.size() == put.size() && std::memcmp(got.data(), put.data(), put.size()) == 0;
  }
};

StatusOr<std::unique_ptr<Peer>> StartRedis(const Workload& workload, Link link);
StatusOr<std::unique_ptr<Peer>> StartMemcached(const Workload& workload, Link link);
StatusOr<std::unique_ptr<Peer>> StartPassband(const Workload& workload, Link link);

}  // namespace passband::bench
