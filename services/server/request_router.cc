#include "services/server/request_router.h"

#include "base/log.h"
#include "transport/codec.h"

namespace passband::server {
namespace {

using transport::MessageType;

constexpr MessageType kRequests[] = {MessageType::kHello,  MessageType::kFetch,
                                     MessageType::kAppend, MessageType::kSlices,
                                     MessageType::kRead,   MessageType::kBye};
constexpr std::chrono::milliseconds kRetryAfter{5};
// Answers, errors included, that one peer may leave untaken; beyond, it gets none.
constexpr uint32_t kMaxPendingSends = 1024;

Method MethodOf(MessageType type) {
  switch (type) {
    case MessageType::kFetch:
      return Method::kFetch;
    case MessageType::kAppend:
      return Method::kAppend;
    case MessageType::kSlices:
      return Method::kSlices;
    default:
      return Method::kRead;
  }
}

std::string Hex(uint64_t session) { return fmt::format("{:016x}", session); }

}  // namespace

RequestRouter::RequestRouter(const Parts& parts, Staging& staging, ReplyQueue& queue)
    : thread_(parts.thread),
      sessions_(parts.sessions),
      counters_(parts.counters),
      limits_(parts.limits),
      fetch_(parts.store, queue, parts.limits),
      append_(parts.store, staging, parts.arena),
      slices_(parts.store, parts.profiles, queue, parts.limits),
      read_(parts.store, queue, parts.limits) {}

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
  if (type == Type::kHello) return OnHello(*header, message, arrival);
  const auto found = connections_.find(header->session);
  if (found == connections_.end()) return Drop(message, TransportError::kUnknownSession);
  // Shared: it may be closed, and leave the map, while we serve it.
  const std::shared_ptr<Connection> connection = found->second;
  // A sender that takes no answers gets none, or they would pile up.
  if (connection->sends() > kMaxPendingSends) {
    return Drop(message, TransportError::kStuckPeer);
  }
  Status refused = Prove(*connection, *header, message);
  if (refused.ok()) {
    sessions_.Touch(connection->session());
    if (type == Type::kBye) return OnBye(header->session);
    refused = Admit(*connection);
  }
  if (!refused.ok()) {
    message.Refuse(refused);
    if (type == Type::kBye) return;
    // Counts, and answers.
    Request(connection, *header, MethodOf(type), arrival).Fail(refused);
    return;
  }
  Serve(Request(connection, *header, MethodOf(type), arrival), type, message);
}

Status RequestRouter::Prove(const Connection& connection, const transport::RequestHeader& header,
                            const Message& message) {
  if (header.epoch != connection.session().epoch()) {
    Count(TransportError::kStaleEpoch);
    return Error(StatusCode::kUnauthenticated, "the epoch is of another start of the server");
  }
  if (!transport::VerifyMac(connection.session().secret(), message.header(), message.data())) {
    Count(TransportError::kWrongMac);
    return Error(StatusCode::kUnauthenticated, "the message is not signed with this session's key");
  }
  return OkStatus();
}

Status RequestRouter::Admit(const Connection& connection) const {
  if (!admitting_) return Error(StatusCode::kUnavailable, "the server is stopping");
  if (connection.outstanding() < limits_.max_outstanding) return OkStatus();
  return WithRetryAfter(Error(StatusCode::kResourceExhausted,
                              "{} requests of the session are without an answer, the limit",
                              connection.outstanding()),
                        kRetryAfter);
}

void RequestRouter::Serve(Request request, Type type, Message& message) {
  const auto refuse = [&](const Status& why) {
    message.Refuse(why);
    request.Fail(why);
  };
  if (type == Type::kAppend) {
    const auto append = transport::ParseAppend(message.header(), message.payload_bytes());
    if (!append.ok()) return refuse(append.status());
    return append_.Serve(std::move(request), *append, message);
  }
  if (message.is_rendezvous()) {
    return refuse(Error(StatusCode::kInvalidArgument, "a {} is to be sent eagerly",
                        transport::ToString(type)));
  }
  if (type == Type::kFetch) {
    const auto fetch = transport::ParseFetch(message.header(), message.data());
    if (!fetch.ok()) return refuse(fetch.status());
    return fetch_.Serve(std::move(request), *fetch);
  }
  if (type == Type::kSlices) {
    const auto slices = transport::ParseSlices(message.header(), message.payload_bytes());
    if (!slices.ok()) return refuse(slices.status());
    return slices_.Serve(std::move(request), *slices);
  }
  const auto read = transport::ParseRead(message.header(), message.payload_bytes());
  if (!read.ok()) return refuse(read.status());
  read_.Serve(std::move(request), *read);
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
  if (header.epoch != session->epoch()) return fail(TransportError::kStaleEpoch);
  if (!transport::VerifyMac(session->secret(), message.header(), message.data())) {
    return fail(TransportError::kWrongMac);
  }
  return session;
}

void RequestRouter::OnHello(const transport::RequestHeader& header, Message& message,
                            Time arrival) {
  const auto session = ProveHello(header, message);
  if (!session.ok()) return;
  const auto hello = transport::ParseHello(message.header(), message.data());
  if (!hello.ok()) return Drop(message, TransportError::kMalformed);
  const auto connection = ConnectTo(*session, hello->worker_address, message);
  if (connection == nullptr) return;
  sessions_.Touch(**session);
  if (!admitting_) {
    return SendError(*connection, header, Error(StatusCode::kUnavailable, "the server is stopping"),
                     arrival);
  }
  SendHelloAck(connection, header);
}

std::shared_ptr<Connection> RequestRouter::ConnectTo(const std::shared_ptr<Session>& session,
                                                     std::span<const std::byte> address,
                                                     Message& message) {
  std::shared_ptr<Connection>& current = connections_[session->id()];
  // A second endpoint to the same worker would share its fate with the first.
  if (current != nullptr && current->LeadsTo(address)) return current;
  const auto connection = std::make_shared<Connection>(session, counters_);
  const Status connected = connection->Connect(
      worker_.lock(), address, [this, weak = std::weak_ptr<Connection>(connection)](Status why) {
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

void RequestRouter::SendHelloAck(const std::shared_ptr<Connection>& connection,
                                 const transport::RequestHeader& header) {
  auto ack = transport::NewHelloAck(header);
  ack.max_reply_bytes = limits_.max_reply_bytes;
  ack.max_rows = limits_.max_rows;
  ack.max_outstanding = limits_.max_outstanding;
  ack.block_tokens = kBlockTokens;
  connection->Send(ack.reply.type, transport::HeaderBytes(ack), {}, nullptr,
                   [connection](const Status& sent) {
                     if (sent.ok()) connection->LearnTransport();
                   });
}

void RequestRouter::OnBye(uint64_t session) { CloseSession(session); }

void RequestRouter::CloseSession(uint64_t session) {
  const auto found = connections_.find(session);
  if (found == connections_.end()) return;
  const std::shared_ptr<Connection> connection = std::move(found->second);
  connections_.erase(found);
  connection->Close();
}

void RequestRouter::CloseLost() {
  if (lost_.empty()) return;
  for (const auto& [weak, why] : std::exchange(lost_, {})) {
    const std::shared_ptr<Connection> connection = weak.lock();
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
