// Placement: which of several servers a sequence belongs on, by rendezvous (highest random
// weight) hashing: every client ranks the servers by hash(key, server), so all agree without
// talking, each server gets an even share, and one that comes or goes moves its share alone.
//
// Contract  pure functions of their arguments, the same in every process and version: clients
//           that disagree do not find each other's prefixes.
// Threads   plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace passband {

// Of (tenant, model fingerprint, the ids of the first block of 64 tokens): what shares a prefix
// has one key. Absent for fewer ids: there is nothing to share, any server will do.
std::optional<uint64_t> PlacementKey(const std::string& tenant, const std::string& model,
                                     std::span<const uint32_t> token_ids);

class Placement {
 public:
  Placement() = default;
  // By names that stay a server's own when it restarts.
  explicit Placement(std::span<const std::string> names);

  size_t size() const { return hashes_.size(); }
  // Every server once, as indices of the names: the first is where the key belongs, each other
  // one where it goes without those before it.
  std::vector<size_t> Rank(uint64_t key) const;

 private:
  std::vector<uint64_t> hashes_;
};

}  // namespace passband
