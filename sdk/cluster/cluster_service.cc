#include "sdk/cluster/cluster_service.h"

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include "base/mutex.h"
#include "base/random.h"
#include "sdk/cluster/cluster_rows.h"
#include "sdk/cluster/peer_set.h"
#include "sdk/cluster/placement.h"
#include "sdk/cluster/session_book.h"
#include "sdk/control_call.h"
#include "sdk/remote_rows.h"

namespace passband {
namespace {

constexpr char kDefaultTenant[] = "default";
constexpr uint32_t kListPage = 1000;
// Of a waiting Open: a draining server does not say when another one is there.
constexpr auto kLookAgain = std::chrono::milliseconds(200);

// Whether another server may do what this one did not.
bool IsElsewhere(const Status& status) {
  return status.code() == StatusCode::kUnavailable ||
         status.code() == StatusCode::kDeadlineExceeded ||
         status.code() == StatusCode::kUnauthenticated;
}

// Why none of several servers did it.
class Refusals {
 public:
  void Add(const std::string& address, const Status& why) {
    last_ = why;
    text_ += fmt::format("{}{}: {}", text_.empty() ? "" : "; ", address, Message(why));
    ++count_;
  }
  Status Sum() const {
    if (count_ == 1) return last_;
    return Error(StatusCode::kUnavailable, "no passband-server is available ({})",
                 count_ == 0 ? "the list is empty" : text_);
  }

 private:
  Status last_;
  std::string text_;
  int count_ = 0;
};

}  // namespace

struct ClusterService::Impl {
  explicit Impl(const ClusterOptions& given) : options(given) {}

  const ClusterOptions options;
  const RealClock clock;
  SessionBook book;
  Mutex mutex;
  std::vector<ModelInfo> models ABSL_GUARDED_BY(mutex);
  std::string tenant ABSL_GUARDED_BY(mutex);  // as servers tell it
  std::unique_ptr<PeerSet> peers;             // Last: its threads use everything above.

  Status Start();
  Status Prepare(Session& session);
  std::vector<ModelInfo> Models() {
    MutexLock lock(mutex);
    return models;
  }
  uint64_t KeyOf(const std::string& model, std::span<const uint32_t> token_ids);
  StatusOr<OpenedSequence> TryOpen(uint64_t key, const OpenParams& params);
  StatusOr<OpenedSequence> OpenOn(Peer& peer, const OpenParams& params);
  // The first session that calls may be made over; null: none.
  std::shared_ptr<Session> Any() const;

  // Makes `call(service, id)` where the sequence is.
  template <typename Call>
  auto On(SequenceId id, Call&& call) -> decltype(call(std::declval<RemoteService&>(), id)) {
    PASSBAND_ASSIGN_OR_RETURN(const auto session, book.Find(id));
    PASSBAND_RETURN_IF_ERROR(session->Admit(id));
    auto result = call(session->remote(), Session::ToServer(id));
    if constexpr (std::is_same_v<decltype(result), Status>) {
      return session->Observe(result, id);
    } else {
      const Status told = session->Observe(result.status(), id);
      if (!told.ok()) return told;
      return result;
    }
  }
  // The same for calls whose error may be of long ago.
  template <typename Call>
  Status OnAppends(SequenceId id, Call&& call) {
    PASSBAND_ASSIGN_OR_RETURN(const auto session, book.Find(id));
    PASSBAND_RETURN_IF_ERROR(session->Admit(id));
    return session->ObserveLoss(call(session->remote(), Session::ToServer(id)), id);
  }
  template <typename Start>
  std::unique_ptr<PendingRows> StartOn(SequenceId id, Start&& start) {
    const auto session = book.Find(id);
    if (!session.ok()) return FailedRows(session.status());
    if (const Status admitted = (*session)->Admit(id); !admitted.ok()) return FailedRows(admitted);
    return ObserveRows(*session, id, start((*session)->remote(), Session::ToServer(id)));
  }
};

Status ClusterService::Impl::Start() {
  PASSBAND_ASSIGN_OR_RETURN(auto names, ParseServerNames(options.servers));
  PeerSet::Options set;
  set.list = {.names = std::move(names), .refresh = options.refresh, .resolver = options.resolver};
  set.peer = {.remote = options.remote,
              .breaker = options.breaker,
              .check_every = options.check_every,
              .prepare = [this](Session& session) { return Prepare(session); },
              .on_change = nullptr};
  peers = std::make_unique<PeerSet>(std::move(set), &book, &clock);
  PASSBAND_RETURN_IF_ERROR(peers->Start());
  peers->AwaitFirst(options.settle, 2 * options.remote.connect_timeout);
  const Time until = clock.Now() + options.open_wait;
  for (;;) {
    const uint64_t version = peers->version();
    if (Any() != nullptr) return OkStatus();
    if (clock.Now() >= until) break;
    peers->AwaitChange(version, until);
  }
  Refusals refusals;
  for (const auto& peer : peers->all()) refusals.Add(peer->address(), peer->why());
  return refusals.Sum();
}

Status ClusterService::Impl::Prepare(Session& session) {
  {
    MutexLock lock(mutex);
    tenant = session.remote().tenant();
  }
  return session.RegisterModels(Models());
}

uint64_t ClusterService::Impl::KeyOf(const std::string& model,
                                     std::span<const uint32_t> token_ids) {
  std::string whose;
  {
    MutexLock lock(mutex);
    whose = tenant;
  }
  if (whose.empty()) whose = options.remote.tenant.empty() ? kDefaultTenant : options.remote.tenant;
  const auto key = PlacementKey(whose, model, token_ids);
  return key.has_value() ? *key : RandomU64();
}

StatusOr<OpenedSequence> ClusterService::Impl::OpenOn(Peer& peer, const OpenParams& params) {
  const auto session = peer.session();
  if (session == nullptr || !peer.available()) {
    const Status why = peer.why();
    return why.ok() ? Error(StatusCode::kUnavailable, "it has just gone") : why;
  }
  Status registered = session->RegisterModels(Models());
  if (!registered.ok()) {
    session->Observe(registered, SequenceId()).IgnoreError();
    return registered;
  }
  auto opened = session->remote().Open(params);
  session->Observe(opened.status(), SequenceId()).IgnoreError();
  if (!opened.ok()) return opened;
  PASSBAND_ASSIGN_OR_RETURN(opened->id, session->ToCaller(opened->id));
  return opened;
}

StatusOr<OpenedSequence> ClusterService::Impl::TryOpen(uint64_t key, const OpenParams& params) {
  Refusals refusals;
  bool first = true;
  for (const auto& peer : peers->Rank(key)) {
    auto opened = OpenOn(*peer, params);
    if (opened.ok()) ++(first ? peer->health().opened_first : peer->health().opened_later);
    if (opened.ok() || !IsElsewhere(opened.status())) return opened;
    refusals.Add(peer->address(), opened.status());
    first = false;
  }
  return refusals.Sum();
}

std::shared_ptr<Session> ClusterService::Impl::Any() const {
  for (const auto& session : book.Sessions()) {
    if (session->Admit(SequenceId()).ok()) return session;
  }
  return nullptr;
}

ClusterService::ClusterService(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ClusterService::~ClusterService() = default;

StatusOr<std::unique_ptr<ClusterService>> ClusterService::Connect(const ClusterOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  PASSBAND_RETURN_IF_ERROR(impl->Start());
  return std::unique_ptr<ClusterService>(new ClusterService(std::move(impl)));
}

Status ClusterService::RegisterModel(const ModelInfo& model) {
  {
    MutexLock lock(impl_->mutex);
    const auto known = [&](const ModelInfo& other) {
      return other.fingerprint == model.fingerprint && other.name == model.name;
    };
    if (std::none_of(impl_->models.begin(), impl_->models.end(), known)) {
      impl_->models.push_back(model);
    }
  }
  Refusals refusals;
  bool registered = false;
  for (const auto& session : impl_->book.Sessions()) {
    Status status = session->Admit(SequenceId());
    if (status.ok()) {
      // By itself, so that a model which a server refuses is refused each time.
      status = session->remote().RegisterModel(model);
      session->Observe(status, SequenceId()).IgnoreError();
    }
    if (!status.ok() && !IsElsewhere(status) && status.code() != StatusCode::kNotFound) {
      return status;
    }
    registered |= status.ok();
    if (!status.ok()) refusals.Add(session->health().address(), status);
  }
  return registered ? OkStatus() : refusals.Sum();
}

StatusOr<OpenedSequence> ClusterService::Open(const OpenParams& params) {
  const uint64_t key = impl_->KeyOf(params.model, params.token_ids);
  const Time until = impl_->clock.Now() + impl_->options.open_wait;
  for (;;) {
    const uint64_t version = impl_->peers->version();
    auto opened = impl_->TryOpen(key, params);
    const Time now = impl_->clock.Now();
    if (opened.ok() || !IsElsewhere(opened.status()) || now >= until) return opened;
    impl_->peers->AwaitChange(version, std::min<Time>(until, now + kLookAgain));
  }
}

StatusOr<SequenceId> ClusterService::Fork(SequenceId sequence, uint64_t tokens) {
  PASSBAND_ASSIGN_OR_RETURN(const auto session, impl_->book.Find(sequence));
  PASSBAND_ASSIGN_OR_RETURN(
      const SequenceId fork,
      impl_->On(sequence, [&](auto& service, SequenceId id) { return service.Fork(id, tokens); }));
  return session->ToCaller(fork);
}

Status ClusterService::Extend(SequenceId sequence, uint64_t first,
                              std::span<const uint32_t> token_ids) {
  return impl_->On(
      sequence, [&](auto& service, SequenceId id) { return service.Extend(id, first, token_ids); });
}

Status ClusterService::Truncate(SequenceId sequence, uint64_t tokens) {
  return impl_->On(sequence,
                   [&](auto& service, SequenceId id) { return service.Truncate(id, tokens); });
}

Status ClusterService::Seal(SequenceId sequence) {
  return impl_->OnAppends(sequence, [](auto& service, SequenceId id) { return service.Seal(id); });
}

Status ClusterService::Pin(SequenceId sequence, std::chrono::milliseconds time) {
  return impl_->On(sequence, [&](auto& service, SequenceId id) { return service.Pin(id, time); });
}

Status ClusterService::Unpin(SequenceId sequence) {
  return impl_->On(sequence, [](auto& service, SequenceId id) { return service.Unpin(id); });
}

Status ClusterService::Close(SequenceId sequence) {
  const auto session = impl_->book.Find(sequence);
  if (!session.ok()) {
    // Its slot was used, or its server never was: only the first is a sequence that is lost.
    return impl_->book.WasKnown(sequence) ? OkStatus() : session.status();
  }
  if ((*session)->lost()) return OkStatus();
  const SequenceId id = Session::ToServer(sequence);
  if (!(*session)->Admit(sequence).ok()) {
    (*session)->CloseLater(id);
    return OkStatus();
  }
  const Status closed = (*session)->remote().Close(id);
  Status told = (*session)->Observe(closed, sequence);
  if ((*session)->lost()) return OkStatus();
  if (IsElsewhere(closed)) {
    (*session)->CloseLater(id);
    return OkStatus();
  }
  return told;
}

StatusOr<SequenceStat> ClusterService::Stat(SequenceId sequence) {
  PASSBAND_ASSIGN_OR_RETURN(
      SequenceStat stat,
      impl_->On(sequence, [](auto& service, SequenceId id) { return service.Stat(id); }));
  stat.id = sequence;
  return stat;
}

StatusOr<std::vector<SequenceStat>> ClusterService::List(SequenceId after, uint32_t limit) {
  std::vector<SequenceStat> out;
  const size_t wanted = limit == 0 ? kListPage : limit;
  for (const auto& session : impl_->book.Sessions()) {
    const uint32_t slot = Session::SlotOf(after);
    if (session->slot() < slot || !session->Admit(after).ok()) continue;
    SequenceId next = session->slot() == slot ? Session::ToServer(after) : SequenceId();
    while (out.size() < wanted) {
      auto page = session->remote().List(next, static_cast<uint32_t>(wanted - out.size()));
      const Status told = session->Observe(page.status(), next);
      if (!told.ok()) return told;
      if (page->empty()) break;
      next = page->back().id;
      for (SequenceStat& stat : *page) {
        PASSBAND_ASSIGN_OR_RETURN(stat.id, session->ToCaller(stat.id));
        out.push_back(std::move(stat));
      }
    }
  }
  return out;
}

StatusOr<uint64_t> ClusterService::Lookup(const std::string& model,
                                          std::span<const uint32_t> token_ids) {
  Refusals refusals;
  for (const auto& peer : impl_->peers->Rank(impl_->KeyOf(model, token_ids))) {
    const auto session = peer->session();
    if (session == nullptr || !peer->available()) {
      refusals.Add(peer->address(), peer->why());
      continue;
    }
    auto found = session->remote().Lookup(model, token_ids);
    session->Observe(found.status(), SequenceId()).IgnoreError();
    if (found.ok() || !IsElsewhere(found.status())) return found;
    refusals.Add(peer->address(), found.status());
  }
  return refusals.Sum();
}

std::unique_ptr<PendingRows> ClusterService::StartFetch(const FetchRequest& request) {
  if (request.groups.empty()) {
    const auto session = impl_->Any();
    if (session == nullptr) {
      return FailedRows(Error(StatusCode::kUnavailable, "no passband-server is available"));
    }
    return session->remote().StartFetch(request);
  }
  return StartClusterFetch(impl_->book, request);
}

std::unique_ptr<PendingRows> ClusterService::StartRead(const RangeRequest& request) {
  return impl_->StartOn(request.sequence, [&](auto& service, SequenceId id) {
    RangeRequest sent = request;
    sent.sequence = id;
    return service.StartRead(sent);
  });
}

std::unique_ptr<PendingRows> ClusterService::StartSlices(
    const RangeRequest& request, const std::shared_ptr<const Profile>& profile) {
  return impl_->StartOn(request.sequence, [&](auto& service, SequenceId id) {
    RangeRequest sent = request;
    sent.sequence = id;
    return service.StartSlices(sent, profile);
  });
}

Status ClusterService::Append(const AppendRequest& request) {
  return impl_->OnAppends(request.sequence, [&](auto& service, SequenceId id) {
    AppendRequest sent = request;
    sent.sequence = id;
    return service.Append(sent);
  });
}

Status ClusterService::Flush(SequenceId sequence) {
  return impl_->OnAppends(sequence, [](auto& service, SequenceId id) { return service.Flush(id); });
}

void ClusterService::Report(const SelectionReport& report) {
  if (const auto session = impl_->Any(); session != nullptr) session->remote().Report(report);
}

TrafficStats ClusterService::traffic() const { return impl_->book.traffic(); }

std::string ClusterService::transport() const {
  std::set<std::string> names;
  for (const auto& session : impl_->book.Sessions()) names.insert(session->remote().transport());
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : "+") + name;
  return out.empty() ? "none" : out;
}

std::vector<ServerStatus> ClusterService::Servers() const {
  std::vector<ServerStatus> out;
  for (const auto& peer : impl_->peers->all()) {
    const ServerHealth& health = peer->health();
    const Status why = peer->why();
    out.push_back({.address = peer->address(),
                   .name = peer->name(),
                   .circuit = health.breaker.state(),
                   .available = peer->available(),
                   .epoch = peer->epoch(),
                   .why = why.ok() ? "" : Message(why),
                   .openings = health.breaker.openings(),
                   .connections = health.connections,
                   .lost_connections = health.lost_connections,
                   .opened_first = health.opened_first,
                   .opened_later = health.opened_later});
  }
  return out;
}

StatusOr<ClusterService::Place> ClusterService::Find(SequenceId sequence) const {
  PASSBAND_ASSIGN_OR_RETURN(const auto session, impl_->book.Find(sequence));
  if (session->lost()) return session->LostError(sequence);
  return Place{session->health().address(), Session::ToServer(sequence)};
}

}  // namespace passband
