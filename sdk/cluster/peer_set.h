// PeerSet: the servers that are on the list, as peers, and the order in which a key takes them.
//
// One server that is found under two addresses is one; one that restarted under another address
// keeps its place by its name.
//
// Threads    safe; the list's and the keepers' threads change it.
// Ownership  owns list and peers.
// Errors     those of ServerList.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "sdk/cluster/peer.h"
#include "sdk/cluster/placement.h"
#include "sdk/cluster/server_list.h"

namespace passband {

class PeerSet {
 public:
  struct Options {
    ServerList::Options list;
    Peer::Options peer;  // of each, without address and on_change
  };

  PeerSet(Options options, SessionBook* book, const Clock* clock);
  ~PeerSet();
  PeerSet(const PeerSet&) = delete;
  PeerSet& operator=(const PeerSet&) = delete;

  // Looks the names up, and begins to connect. Once.
  Status Start();
  // Until every server's first attempt is over, or one is there and `settle` is over.
  void AwaitFirst(std::chrono::milliseconds settle, std::chrono::milliseconds longest);

  // All that are on the list, in the order of `key`.
  std::vector<std::shared_ptr<Peer>> Rank(uint64_t key) const;
  // In the order of their addresses, those that left the list included.
  std::vector<std::shared_ptr<Peer>> all() const;

  // Changes whenever a server comes or goes.
  uint64_t version() const;
  // Until it is no longer `version`.
  void AwaitChange(uint64_t version, Time until) const;

 private:
  void OnServers(const std::vector<ServerAddress>& servers);
  void Rebuild();

  const Options options_;
  SessionBook* const book_;
  const Clock* const clock_;
  mutable Mutex mutex_;
  mutable std::condition_variable_any changed_;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t version_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, std::shared_ptr<Peer>> peers_ ABSL_GUARDED_BY(mutex_);  // by address
  std::vector<std::shared_ptr<Peer>> placed_ ABSL_GUARDED_BY(mutex_);
  Placement placement_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<ServerList> list_;
};

}  // namespace passband
