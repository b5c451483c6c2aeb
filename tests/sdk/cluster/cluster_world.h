// Three passband-servers of a test, and what a client stores there: sequences whose every byte
// is a function of their key (tests/chaos/content.h), so that nobody need remember any.
//
// Threads  safe, but for starting and ending servers.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "sdk/cluster/cluster_service.h"
#include "tests/chaos/content.h"
#include "tests/support/server_process.h"

namespace passband::test {

inline constexpr uint64_t kPromptTokens = 192;

class ClusterWorld {
 public:
  // Fails the test when one does not start.
  void Start(size_t servers, std::vector<std::string> flags = {});
  void StartAgain(size_t server);
  ServerProcess& server(size_t i) { return *servers_[i]; }
  size_t size() const { return servers_.size(); }
  std::string address(size_t i) const { return addresses_[i]; }
  size_t IndexOf(const std::string& address) const;
  std::string List() const;

  // Short deadlines and pauses, so that faults are seen soon.
  ClusterOptions Options() const;
  // With the model registered; null, and the test fails, when nobody can be reached.
  std::unique_ptr<ClusterService> Connect() { return Connect(Options()); }
  std::unique_ptr<ClusterService> Connect(const ClusterOptions& options);

 private:
  ServerProcess::Options options_;
  std::vector<std::unique_ptr<ServerProcess>> servers_;
  std::vector<std::string> addresses_;
};

std::vector<uint32_t> TokensOf(uint64_t key, uint64_t tokens);
// Opens the key's sequence and stores what the service lacks.
StatusOr<OpenedSequence> Store(KvService& service, uint64_t key, uint64_t tokens = kPromptTokens);
// Appends rows [first, tokens) of every layer, and flushes.
Status AppendRows(KvService& service, SequenceId sequence, uint64_t key, uint64_t first,
                  uint64_t tokens);

// Rows wanted of several sequences at once, and whether they came.
class RandomFetch {
 public:
  explicit RandomFetch(uint64_t seed) : random_(seed) {}
  // `count` rows of each layer and head.
  void Add(SequenceId sequence, uint64_t key, size_t count, uint64_t tokens = kPromptTokens);
  // Their order is nobody's.
  void Shuffle();
  std::unique_ptr<PendingRows> Start(KvService& service);
  // Wrong bytes fail the test.
  Status Collect(PendingRows& pending);
  Status Run(KvService& service);
  uint64_t rows() const { return rows_; }

 private:
  struct Wanted {
    SequenceId sequence;
    uint64_t key;
    uint32_t layer, head;
    std::vector<uint32_t> tokens;
  };
  std::mt19937_64 random_;
  std::vector<Wanted> wanted_;
  uint64_t rows_ = 0;
};

}  // namespace passband::test
