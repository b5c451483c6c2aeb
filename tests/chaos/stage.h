// Stage: where a chaos run takes place: two hosts with a good cable and a bad one, a disk that can
// be filled, an authority with certificates. What this machine does not have is left out, and said.
//
// Threads    one at a time.
// Ownership  the destructor takes all of it away.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/chaos/faults.h"
#include "tests/chaos/workers.h"
#include "tests/support/bad_cable.h"
#include "tests/support/mounts.h"
#include "tests/support/network.h"
#include "tests/support/server_process.h"

namespace passband::chaos {

class Stage {
 public:
  struct Options {
    uint64_t seed = 0;
    uint64_t disk_bytes = 0;
    bool tls = false;      // mutual TLS on the gRPC port
    uint32_t tenants = 0;  // that get a certificate
  };
  struct Skipped {
    FaultKind kind;
    Status why;
  };

  explicit Stage(const Options& options);

  // The faults that can be had here, and those that cannot.
  const std::vector<FaultKind>& kinds() const { return kinds_; }
  const std::vector<Skipped>& skipped() const { return skipped_; }

  // Adds what a server needs to run here.
  void PlaceServer(test::ServerProcess::Options& server) const;
  // The kinds of workers there are.
  std::vector<Workers::Options::Kind> PlaceWorkers() const;

  // Null: not to be had.
  test::Network* network() { return network_.get(); }
  test::BadCable* bad_cable() { return bad_cable_.get(); }
  test::SmallDisk* disk() { return disk_.get(); }

 private:
  void BuildNetwork();
  void MountDisk();
  void IssueCertificates();
  void Skip(FaultKind kind, const Status& why) { skipped_.push_back({kind, why}); }
  void PutAt(test::Network::End end, Workers::Options::Kind& kind) const;

  const Options options_;
  test::SpillFolder folder_;
  test::SpillFolder certificates_;
  std::unique_ptr<test::Network> network_;
  std::unique_ptr<test::BadCable> bad_cable_;
  std::unique_ptr<test::SmallDisk> disk_;
  std::vector<FaultKind> kinds_;
  std::vector<Skipped> skipped_;
};

}  // namespace passband::chaos
