#include "services/server/request_router.h"

#include "base/log.h"
#include "services/server/request_proof.h"
#include "transport/codec.h"

namespace passband::server {
namespace {

using transport::MessageType;

constexpr MessageType kRequests[] = {MessageType::kHello,  MessageType::kFetch,
                                     MessageType::kAppend, MessageType::kSlices,
                                     MessageType::kRead,   MessageType::kBye};
// Answers, errors included, that one peer may leave untaken; beyond, it gets none.
constexpr uint32_t kMaxPendingSends = 1024;

std::string Hex(uint64_t session) { return fmt::format("{:016x}", session); }

}  // namespace

RequestRouter::RequestRouter(const Dispatcher::Parts& parts, Staging& staging, ReplyQueue& queue,
                             std::function<void()> wake)
    : thread_(parts.thread),
      sessions_(parts.sessions),
      counters_(parts.counters),
      limits_(parts.limits),
      dispatcher_(parts, staging, queue, std::move(wake)) {}

Status RequestRouter::Register(const std::shared_ptr<transport::UcxWorker>& worker) {
  worker_ = worker;
  for (const Type type : kRequests) {
    PASSBAND_RETURN_IF_ERROR(worker->SetHandler(
        transport::AmId(type), [this, type](Message& message) { OnMessage(type, message); }));
  }
  return OkStatus();
}

void RequestRouter::OnMessage(Type type, Message& message) {
  const Time arrival = std::chrono::steady_clock::now();
  const auto header = transport::PeekRequest(message.header());
  if (!header.ok() || header->type != type) return Drop(message, TransportError::kMalformed);
  if (type == Type::kHello) return OnHello(*header, message);
  const auto found = connections_.find(header->session);
  if (found == connections_.end()) return Drop(message, TransportError::kUnknownSession);
  // Shared: it may be closed, and leave the map, while we serve it.
  const std::shared_ptr<UcxConnection> connection = found->second;
  // A sender that takes no answers gets none, or they would pile up.
  if (connection->sends() > kMaxPendingSends) {
    return Drop(message, TransportError::kStuckPeer);
  }
  const auto fault = FaultOf(connection->session(), *header, message.header(), message.data());
  if (fault.has_value()) {
    Count(*fault);
    // No answer: whoever sent it, the session's own worker would take it for that to a request
    // of its own.
    return message.Refuse(ToStatus(*fault));
  }
  sessions_.Touch(connection->session());
  if (type == Type::kBye) return OnBye(header->session);
  UcxPayload payload(message);
  dispatcher_.Serve(Request(connection, connection, *header, MethodOf(type), arrival), type,
                    message.header(), payload);
}

StatusOr<std::shared_ptr<Session>> RequestRouter::ProveHello(const transport::RequestHeader& header,
                                                             Message& message) {
  const auto fail = [&](TransportError error) {
    Drop(message, error);
    return Error(StatusCode::kUnauthenticated, "HELLO refused");
  };
  std::shared_ptr<Session> session = sessions_.Find(header.session);
  if (session == nullptr || session->data_thread() != thread_) {
    return fail(TransportError::kUnknownSession);
  }
  const auto fault = FaultOf(*session, header, message.header(), message.data());
  if (fault.has_value()) return fail(*fault);
  return session;
}

void RequestRouter::OnHello(const transport::RequestHeader& header, Message& message) {
  const auto session = ProveHello(header, message);
  if (!session.ok()) return;
  const auto hello = transport::ParseHello(message.header(), message.data());
  if (!hello.ok()) return Drop(message, TransportError::kMalformed);
  const auto connection = ConnectTo(*session, hello->worker_address, message);
  if (connection == nullptr) return;
  sessions_.Touch(**session);
  if (!dispatcher_.admitting()) {
    return connection->SendHelloAck(transport::NewHelloAck(header),
                                    Error(StatusCode::kUnavailable, "the server is stopping"),
                                    [](const Status&) {});
  }
  SendHelloAck(connection, header);
}

std::shared_ptr<UcxConnection> RequestRouter::ConnectTo(const std::shared_ptr<Session>& session,
                                                        std::span<const std::byte> address,
                                                        Message& message) {
  std::shared_ptr<UcxConnection>& current = connections_[session->id()];
  // A second endpoint to the same worker would share its fate with the first.
  if (current != nullptr && current->LeadsTo(address)) return current;
  const auto connection = std::make_shared<UcxConnection>(session, counters_);
  const Status connected = connection->Connect(
      worker_.lock(), address, [this, weak = std::weak_ptr<UcxConnection>(connection)](Status why) {
        lost_.emplace_back(weak, std::move(why));
      });
  if (!connected.ok()) {
    log::Warn("data_connection_failed", {{"session", Hex(session->id())}, {"why", connected}});
    if (current == nullptr) connections_.erase(session->id());
    Drop(message, TransportError::kConnectFailed);
    return nullptr;
  }
  const auto previous = std::exchange(current, connection);
  if (previous != nullptr) previous->Close();
  return connection;
}

void RequestRouter::SendHelloAck(const std::shared_ptr<UcxConnection>& connection,
                                 const transport::RequestHeader& header) {
  auto ack = transport::NewHelloAck(header);
  ack.max_reply_bytes = limits_.max_reply_bytes;
  ack.max_rows = limits_.max_rows;
  ack.max_outstanding = limits_.max_outstanding;
  ack.block_tokens = kBlockTokens;
  connection->SendHelloAck(ack, OkStatus(), [connection](const Status& sent) {
    if (sent.ok()) connection->LearnTransport();
  });
}

void RequestRouter::OnBye(uint64_t session) { CloseSession(session); }

void RequestRouter::CloseSession(uint64_t session) {
  const auto found = connections_.find(session);
  if (found == connections_.end()) return;
  const std::shared_ptr<UcxConnection> connection = std::move(found->second);
  connections_.erase(found);
  connection->Close();
}

void RequestRouter::CloseLost() {
  if (lost_.empty()) return;
  for (const auto& [weak, why] : std::exchange(lost_, {})) {
    const std::shared_ptr<UcxConnection> connection = weak.lock();
    if (connection == nullptr || !connection->open()) continue;
    const uint64_t session = connection->session().id();
    Count(TransportError::kConnectionLost);
    log::Info(
        "data_connection_lost",
        {{"session", Hex(session)}, {"transport", Name(connection->transport())}, {"why", why}});
    sessions_.ConnectionLost(connection->session());
    CloseSession(session);
  }
}

void RequestRouter::Tend(Time now) {
  std::vector<uint64_t> stuck;
  for (const auto& [session, connection] : connections_) {
    connection->LearnTransport();
    if (connection->oldest_send() < now - kStuckAfter) stuck.push_back(session);
  }
  for (const uint64_t session : stuck) {
    Count(TransportError::kStuckPeer);
    log::Warn("data_connection_stuck", {{"session", Hex(session)}});
    CloseSession(session);
  }
}

void RequestRouter::CloseAll() {
  for (const auto& [session, connection] : std::exchange(connections_, {})) connection->Close();
}

void RequestRouter::Drop(Message& message, TransportError error) {
  Count(error);
  message.Refuse(Error(StatusCode::kUnauthenticated, "not a message of an open session"));
}

}  // namespace passband::server
