#include "services/server/session_table.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/log.h"
#include "base/random.h"
#include "base/thread.h"

namespace passband::server {
namespace {

constexpr std::chrono::milliseconds kReapInterval{100};
constexpr size_t kMaxClientName = 128;

// What clients say of themselves goes to the log: one line, of bounded length.
std::string Printable(std::string text) {
  text.resize(std::min(text.size(), kMaxClientName));
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 32 || c > 126; }, '?');
  return text;
}

std::optional<uint64_t> ParseHex(const std::string& text) {
  if (text.empty() || text.size() > 16) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'a' || c > 'f')) return std::nullopt;
    value = value * 16 + static_cast<uint64_t>(digit ? c - '0' : c - 'a' + 10);
  }
  return value;
}

// Takes the same time wherever the two differ.
bool SameToken(const std::string& a, const std::string& b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
  }
  return difference == 0;
}

std::string NewToken() {
  std::array<std::byte, 16> bytes;
  RandomBytes(bytes);
  return ToHex(bytes);
}

Status NoSession() {
  return Error(StatusCode::kUnauthenticated, "no such session, or it has ended; connect again");
}

}  // namespace

bool IsTenantName(const std::string& name) {
  return name.size() <= kMaxTenantName &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
         });
}

const char* Name(EndReason reason) {
  switch (reason) {
    case EndReason::kDisconnected:
      return "disconnected";
    case EndReason::kLeaseExpired:
      return "lease_expired";
    case EndReason::kConnectionLost:
      return "connection_lost";
    case EndReason::kShutdown:
      return "shutdown";
  }
  return "unknown";
}

SessionTable::SessionTable(const Options& options, OnEnd on_end)
    : options_(options),
      on_end_(std::move(on_end)),
      clock_(options.clock != nullptr ? options.clock : &real_clock_),
      epoch_(RandomU64() | 1) {}

SessionTable::~SessionTable() = default;

StatusOr<std::shared_ptr<Session>> SessionTable::Open(const std::string& tenant,
                                                      const std::string& client,
                                                      const std::string& certificate) {
  if (!IsTenantName(tenant)) {
    return Error(StatusCode::kInvalidArgument,
                 "tenant names have at most {} letters, digits, '.', '_' and '-'", kMaxTenantName);
  }
  Session::Identity identity{.token = NewToken(),
                             .epoch = epoch_,
                             .tenant = tenant.empty() ? kDefaultTenant : tenant,
                             .client = Printable(client),
                             .certificate = certificate};
  RandomBytes(identity.secret);
  const MutexLock lock(mutex_);
  if (sessions_.size() >= options_.max_sessions) {
    return WithRetryAfter(
        Error(StatusCode::kResourceExhausted,
              "{} sessions are open, the limit; raise --max-sessions", sessions_.size()),
        std::chrono::seconds(1));
  }
  do {
    identity.id = RandomU64();
  } while (identity.id == 0 || sessions_.contains(identity.id));
  identity.data_thread = next_thread_++ % options_.data_threads;
  const uint64_t id = identity.id;
  auto session = std::make_shared<Session>(std::move(identity), options_.lease, clock_->Now());
  sessions_.emplace(id, session);
  return session;
}

std::shared_ptr<Session> SessionTable::Find(uint64_t id) const {
  const MutexLock lock(mutex_);
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second;
}

StatusOr<std::shared_ptr<Session>> SessionTable::Authenticate(const std::string& id,
                                                              const std::string& token) const {
  const std::optional<uint64_t> number = ParseHex(id);
  if (!number.has_value()) {
    return Error(StatusCode::kUnauthenticated,
                 "the call carries no session; connect, then send the metadata passband-session "
                 "and passband-token in lower-case hexadecimal");
  }
  std::shared_ptr<Session> session = Find(*number);
  if (session == nullptr || !SameToken(session->token(), token)) return NoSession();
  Touch(*session);
  return session;
}

void SessionTable::ConnectionLost(Session& session) const {
  session.ConnectionLost(clock_->Now(), std::min(options_.reconnect_grace, options_.lease));
}

StatusOr<uint64_t> SessionTable::End(uint64_t id, EndReason reason) {
  std::shared_ptr<Session> session;
  {
    const MutexLock lock(mutex_);
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return NoSession();
    session = std::move(found->second);
    sessions_.erase(found);
  }
  session->MarkEnded();
  const uint64_t closed = on_end_(*session);
  ended_[static_cast<size_t>(reason)].fetch_add(1, std::memory_order_relaxed);
  log::Info("session_closed", {{"session", fmt::format("{:016x}", id)},
                               {"tenant", session->tenant()},
                               {"reason", Name(reason)},
                               {"closed_sequences", closed}});
  return closed;
}

size_t SessionTable::Reap() {
  std::vector<std::pair<uint64_t, EndReason>> over;
  {
    const Time now = clock_->Now();
    const MutexLock lock(mutex_);
    for (const auto& [id, session] : sessions_) {
      if (!session->expired(now)) continue;
      over.emplace_back(
          id, session->connection_lost() ? EndReason::kConnectionLost : EndReason::kLeaseExpired);
    }
  }
  size_t ended = 0;
  for (const auto& [id, reason] : over) ended += End(id, reason).ok() ? 1 : 0;
  return ended;
}

void SessionTable::EndAll(EndReason reason) {
  std::vector<uint64_t> all;
  {
    const MutexLock lock(mutex_);
    for (const auto& entry : sessions_) all.push_back(entry.first);
  }
  // One that ends by itself meanwhile is as good.
  for (const uint64_t id : all) End(id, reason).IgnoreError();
}

void SessionTable::StartReaper() {
  reaper_ = StartThread("passband-reap", [this](const std::stop_token& stop) { RunReaper(stop); });
}

void SessionTable::RunReaper(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    Reap();
    const MutexLock lock(reaper_mutex_);
    reaper_wakes_.wait_for(reaper_mutex_, stop, kReapInterval, [] { return false; });
  }
}

size_t SessionTable::size() const {
  const MutexLock lock(mutex_);
  return sessions_.size();
}

}  // namespace passband::server
