#include "services/server/grpc_data_thread.h"

#include <utility>
#include <vector>

#include "base/log.h"
#include "base/thread.h"
#include "services/server/request_proof.h"

namespace passband::server {
namespace {

// How often requests that wait for memory are looked after; and, idle, everything.
constexpr std::chrono::milliseconds kExpireInterval{2};
constexpr std::chrono::milliseconds kIdleInterval{200};
// For gRPC to let go of the last replies, once it has ended.
constexpr std::chrono::seconds kLentTimeout{5};

}  // namespace

// What the thread works with, in the order of its making.
struct GrpcDataThread::Core {
  Core(const Options& from, const Dispatcher::Parts& from_parts, std::unique_ptr<Staging> memory,
       std::shared_ptr<GrpcMailbox> mail)
      : options(from),
        parts(from_parts),
        mailbox(std::move(mail)),
        staging(std::move(memory)),
        queue(*staging),
        dispatcher(parts, *staging, queue, [mailbox = mailbox] { mailbox->Wake(); }) {}

  const Options options;
  const Dispatcher::Parts parts;
  const std::shared_ptr<GrpcMailbox> mailbox;
  const std::unique_ptr<Staging> staging;
  ReplyQueue queue;
  Dispatcher dispatcher;
  std::vector<std::promise<void>> drains;
  absl::flat_hash_map<uint64_t, std::shared_ptr<GrpcConnection>> connections;
};

StatusOr<std::unique_ptr<GrpcDataThread>> GrpcDataThread::Start(const Options& options,
                                                                const Dispatcher::Parts& parts) {
  PASSBAND_ASSIGN_OR_RETURN(auto staging,
                            Staging::Create(nullptr, options.staging_bytes, options.huge_pages));
  std::unique_ptr<GrpcDataThread> out(new GrpcDataThread());
  // std::function copies, a unique_ptr does not: hand it over behind a pointer.
  auto core = std::make_shared<std::unique_ptr<Core>>(
      std::make_unique<Core>(options, parts, std::move(staging), out->mailbox_));
  out->thread_ = StartThread(
      fmt::format("passband-grpc{}", parts.thread),
      [self = out.get(), core](const std::stop_token& stop) { self->Run(stop, std::move(*core)); });
  return out;
}

GrpcDataThread::~GrpcDataThread() = default;

void GrpcDataThread::Run(const std::stop_token& stop, std::unique_ptr<Core> core) const {
  core->parts.counters.staging_capacity_bytes.Set(core->staging->capacity_bytes());
  const std::stop_callback wake(stop, [this] { mailbox_->Wake(); });
  Duration rest = Duration::zero();
  while (!stop.stop_requested()) {
    ReadMail(*core, mailbox_->Take(rest));
    rest = Duration::zero();
    const bool restored = core->dispatcher.Continue();
    if (!core->queue.RunSlice() && !restored) {
      rest = core->queue.waiting() ? Duration(kExpireInterval) : Duration(kIdleInterval);
      if (core->queue.size() + core->dispatcher.waiting() == 0) {
        for (std::promise<void>& drained : std::exchange(core->drains, {})) drained.set_value();
      }
    }
    core->parts.counters.staging_used_bytes.Set(core->staging->used_bytes());
    if (core->queue.waiting()) core->queue.ExpireWaiting(std::chrono::steady_clock::now());
  }
  mailbox_->Close();
  const Time end = std::chrono::steady_clock::now() + kLentTimeout;
  while (mailbox_->lent() > 0 && std::chrono::steady_clock::now() < end) {
    ReadMail(*core, mailbox_->Take(kExpireInterval));
  }
  ReadMail(*core, mailbox_->Take(Duration::zero()));
  if (mailbox_->lent() == 0) return;
  // gRPC may still read these bytes: rather lost than given to somebody else.
  log::Error("grpc_replies_not_returned", {{"replies", mailbox_->lent()}});
  [[maybe_unused]] const Core* const lost = core.release();
}

void GrpcDataThread::ReadMail(Core& core, GrpcMailbox::Mail mail) {
  for (transport::Done& done : mail.sent) {
    core.mailbox->DropLent();
    std::move(done)(OkStatus());
  }
  for (GrpcMailbox::Arrival& arrival : mail.arrivals) Serve(core, std::move(arrival));
  for (const uint64_t session : mail.closed_sessions) {
    const auto found = core.connections.find(session);
    if (found == core.connections.end()) continue;
    found->second->Close();
    core.connections.erase(found);
  }
  for (std::promise<void>& drain : mail.drains) {
    core.dispatcher.StopAdmitting();
    core.drains.push_back(std::move(drain));
  }
}

void GrpcDataThread::Serve(Core& core, GrpcMailbox::Arrival arrival) {
  // The end of a session is marked before its mail is sent: no connection is made behind that.
  if (arrival.session->ended()) {
    core.parts.counters.errors[Index(TransportError::kUnknownSession)].Add();
    return arrival.call->Fail(ToStatus(TransportError::kUnknownSession));
  }
  std::shared_ptr<GrpcConnection>& connection = core.connections[arrival.session->id()];
  if (connection == nullptr) {
    connection = std::make_shared<GrpcConnection>(arrival.session, core.parts.counters,
                                                  core.options.transport);
  }
  core.parts.sessions.Touch(*arrival.session);
  arrival.call->SetMailbox(core.mailbox);
  GrpcPayload& payload = arrival.call->payload();
  const transport::MessageType type = arrival.header.type;
  core.dispatcher.Serve(
      Request(connection, arrival.call, arrival.header, MethodOf(type), arrival.time), type,
      payload.header(), payload);
}

}  // namespace passband::server
