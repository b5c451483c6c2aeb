#include "sdk/cluster/peer.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/thread.h"

namespace passband {

Peer::Peer(Options options, SessionBook* book, const Clock* clock)
    : options_(std::move(options)),
      book_(book),
      clock_(clock),
      health_(std::make_shared<ServerHealth>(options_.remote.control_address, options_.breaker,
                                             clock)) {
  keeper_ = StartThread("pb-peer", [this](const std::stop_token& stop) { Run(stop); });
}

Peer::~Peer() {
  keeper_ = {};
  if (session_ != nullptr) book_->Retire(session_);
}

std::shared_ptr<Session> Peer::session() const {
  MutexLock lock(mutex_);
  return session_;
}

bool Peer::available() const {
  if (!listed_ || !health_->breaker.closed()) return false;
  MutexLock lock(mutex_);
  return session_ != nullptr && !session_->lost();
}

std::string Peer::name() const {
  MutexLock lock(mutex_);
  return node_.empty() ? address() : node_;
}

uint64_t Peer::epoch() const {
  MutexLock lock(mutex_);
  return epoch_;
}

Status Peer::why() const {
  if (!listed_) {
    return Error(StatusCode::kUnavailable, "passband-server at {} is not on the list any more",
                 address());
  }
  return health_->breaker.why();
}

void Peer::SetListed(bool listed) {
  if (listed_.exchange(listed) != listed) health_->Wake();
}

void Peer::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    Look();
    const Time now = clock_->Now();
    const bool open = health_->breaker.state() == CircuitBreaker::State::kOpen;
    // What is gone for good is waited for by nobody.
    const bool over = !listed_ && session() == nullptr;
    const Time next =
        open && !over ? std::max(health_->breaker.next_trial(), now) : now + options_.check_every;
    health_->Rest(stop, next);
  }
}

void Peer::Look() {
  if (const auto current = session(); current != nullptr && !current->lost()) Check(current);
  DropLost();
  if (!listed_ && session() == nullptr) return;
  if (!health_->breaker.BeginTrial()) return;
  const Status outcome = Try();
  health_->breaker.EndTrial(outcome);
  attempted_ = true;
  if (!outcome.ok()) {
    log::Debug("server_unavailable", {{"server", address()}, {"why", outcome}});
  }
  options_.on_change();
}

// Hears of a lost connection before somebody's call does.
void Peer::Check(const std::shared_ptr<Session>& current) {
  current->Look();
  if (current->lost() || !health_->breaker.closed()) return;
  const uint64_t successes = health_->breaker.successes();
  const bool quiet = std::exchange(seen_successes_, successes) == successes;
  if (quiet) current->Observe(current->remote().Ping(), SequenceId()).IgnoreError();
  seen_successes_ = health_->breaker.successes();
}

void Peer::DropLost() {
  std::shared_ptr<Session> gone;
  {
    MutexLock lock(mutex_);
    if (session_ == nullptr || !session_->lost()) return;
    gone = std::exchange(session_, nullptr);
  }
  book_->Retire(gone);
  options_.on_change();
}

Status Peer::Try() {
  if (const auto current = session(); current != nullptr) {
    Status answer = current->ObserveLoss(current->remote().Ping(), SequenceId());
    if (answer.ok()) current->CloseNow();
    if (!current->lost()) return answer;
    DropLost();
    if (!listed_) return answer;
  }
  return Connect();
}

Status Peer::Connect() {
  PASSBAND_ASSIGN_OR_RETURN(auto remote, RemoteService::Connect(options_.remote));
  const auto fresh = std::make_shared<Session>(health_, std::move(remote));
  PASSBAND_RETURN_IF_ERROR(options_.prepare(*fresh));
  PASSBAND_RETURN_IF_ERROR(book_->Add(fresh));
  ++health_->connections;
  const RemoteService& server = fresh->remote();
  const bool again = epoch() != 0;
  const auto log = again ? log::Info : log::Debug;
  log("server_connected", {{"server", address()},
                           {"node", server.node()},
                           {"epoch", fmt::format("{:016x}", server.epoch())},
                           {"restarted", again && epoch() != server.epoch()},
                           {"transport", server.transport()}});
  MutexLock lock(mutex_);
  node_ = server.node();
  epoch_ = server.epoch();
  session_ = fresh;
  return OkStatus();
}

}  // namespace passband
