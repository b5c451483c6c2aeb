#include "sdk/cluster/peer_set.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/log.h"

namespace passband {

PeerSet::PeerSet(Options options, SessionBook* book, const Clock* clock)
    : options_(std::move(options)), book_(book), clock_(clock) {}

PeerSet::~PeerSet() {
  std::map<std::string, std::shared_ptr<Peer>> peers;
  {
    MutexLock lock(mutex_);
    closing_ = true;
    peers.swap(peers_);
    placed_.clear();
  }
  // All are told before any is waited for. They use the list, so it goes after them.
  for (const auto& [address, peer] : peers) peer->Stop();
  peers.clear();
}

Status PeerSet::Start() {
  PASSBAND_ASSIGN_OR_RETURN(list_, ServerList::Create(options_.list));
  list_->Watch([this](const auto& servers) { OnServers(servers); });
  OnServers(list_->addresses());
  return OkStatus();
}

void PeerSet::OnServers(const std::vector<ServerAddress>& servers) {
  std::vector<std::shared_ptr<Peer>> gone;  // They wait for their threads: with nothing locked.
  {
    MutexLock lock(mutex_);
    if (closing_) return;
    std::set<std::string> listed;
    for (const ServerAddress& server : servers) listed.insert(server.address);
    for (const auto& [address, peer] : peers_) {
      peer->SetListed(listed.count(address) > 0);
      if (!peer->listed() && peer->session() == nullptr) gone.push_back(peer);
    }
    for (const auto& peer : gone) peers_.erase(peer->address());
    for (const ServerAddress& server : servers) {
      if (peers_.count(server.address) > 0) continue;
      Peer::Options options = options_.peer;
      options.remote.control_address = server.address;
      // A certificate names what was asked for, not the address that it led to.
      if (options.remote.tls_server_name.empty()) options.remote.tls_server_name = server.name;
      options.on_change = [this] { Rebuild(); };
      peers_[server.address] = std::make_shared<Peer>(std::move(options), book_, clock_);
      log::Debug("server_listed", {{"server", server.address}});
    }
  }
  Rebuild();
}

void PeerSet::Rebuild() {
  bool look = false;
  {
    MutexLock lock(mutex_);
    std::set<uint64_t> runs;
    std::map<std::string, int> live_names;
    placed_.clear();
    for (const auto& [address, peer] : peers_) {
      if (!peer->listed()) continue;
      const bool live = peer->session() != nullptr;
      look |= !live;
      // The same run may be found under another address, too.
      if (live && !runs.insert(peer->epoch()).second) continue;
      if (live) ++live_names[peer->name()];
      placed_.push_back(peer);
    }
    // The address that a server had before.
    std::erase_if(placed_, [&](const auto& peer) {
      return peer->session() == nullptr && live_names.count(peer->name()) > 0;
    });
    std::vector<std::string> names;
    for (const auto& peer : placed_) {
      const auto found = live_names.find(peer->name());
      const bool unclear = found != live_names.end() && found->second > 1;
      names.push_back(unclear ? peer->name() + "@" + peer->address() : peer->name());
    }
    placement_ = Placement(names);
    ++version_;
    changed_.notify_all();
  }
  if (look && list_ != nullptr) list_->RefreshSoon();
}

void PeerSet::AwaitFirst(std::chrono::milliseconds settle, std::chrono::milliseconds longest) {
  const Time start = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  const auto attempted = [this] {
    return std::all_of(peers_.begin(), peers_.end(),
                       [](const auto& entry) { return entry.second->attempted(); });
  };
  if (changed_.wait_until(lock, start + settle, attempted)) return;
  changed_.wait_until(lock, start + longest, [&] {
    return attempted() || std::any_of(peers_.begin(), peers_.end(),
                                      [](const auto& entry) { return entry.second->available(); });
  });
}

std::vector<std::shared_ptr<Peer>> PeerSet::Rank(uint64_t key) const {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<Peer>> out;
  out.reserve(placed_.size());
  for (const size_t at : placement_.Rank(key)) out.push_back(placed_[at]);
  return out;
}

std::vector<std::shared_ptr<Peer>> PeerSet::all() const {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<Peer>> out;
  out.reserve(peers_.size());
  for (const auto& [address, peer] : peers_) out.push_back(peer);
  return out;
}

uint64_t PeerSet::version() const {
  MutexLock lock(mutex_);
  return version_;
}

void PeerSet::AwaitChange(uint64_t version, Time until) const {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, until, [&] { return version_ != version; });
}

}  // namespace passband
