// RequestRouter: the door of the data plane over UCX. Every message comes in here, proves who sent
// it, and goes to the dispatcher.
//
// A message is served only over a connection that a HELLO opened, and only with the session's
// own epoch and MAC. One that nobody known can have sent is counted and dropped; a known sender
// that asks for something wrong is told so.
//
// Threads    its data thread.
// Ownership  owns the connections. Everything in Parts must outlive it, and it must outlive the
//            worker that it is registered with.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "services/server/dispatcher.h"
#include "services/server/ucx_connection.h"
#include "transport/ucx_worker.h"

namespace passband::server {

class RequestRouter {
 public:
  RequestRouter(const Dispatcher::Parts& parts, Staging& staging, ReplyQueue& queue,
                std::function<void()> wake);
  RequestRouter(const RequestRouter&) = delete;
  RequestRouter& operator=(const RequestRouter&) = delete;

  // Takes the worker's messages from here on.
  Status Register(const std::shared_ptr<transport::UcxWorker>& worker);

  // From now on every request is answered with kUnavailable.
  void StopAdmitting() { dispatcher_.StopAdmitting(); }
  // As the dispatcher says.
  bool Continue() { return dispatcher_.Continue(); }
  size_t waiting() const { return dispatcher_.waiting(); }
  // The session has ended.
  void CloseSession(uint64_t session);
  // Of the peers that progress found dead.
  void CloseLost();
  // Of peers that have not taken a reply for kStuckAfter; also looks up names of lanes that UCX
  // had not decided on.
  void Tend(Time now);
  void CloseAll();

  static constexpr std::chrono::seconds kStuckAfter{10};

 private:
  using Type = transport::MessageType;
  using Message = transport::IncomingMessage;

  void OnMessage(Type type, Message& message);
  void OnHello(const transport::RequestHeader& header, Message& message);
  void OnBye(uint64_t session);
  StatusOr<std::shared_ptr<Session>> ProveHello(const transport::RequestHeader& header,
                                                Message& message);
  // The connection to the HELLO's worker; null (and dropped) when it cannot be made.
  std::shared_ptr<UcxConnection> ConnectTo(const std::shared_ptr<Session>& session,
                                           std::span<const std::byte> address, Message& message);
  void SendHelloAck(const std::shared_ptr<UcxConnection>& connection,
                    const transport::RequestHeader& header);
  void Drop(Message& message, TransportError error);
  void Count(TransportError error) { counters_.errors[Index(error)].Add(); }

  const size_t thread_;
  SessionTable& sessions_;
  ThreadCounters& counters_;
  const DataLimits limits_;
  Dispatcher dispatcher_;
  std::weak_ptr<transport::UcxWorker> worker_;  // It holds our handlers.
  absl::flat_hash_map<uint64_t, std::shared_ptr<UcxConnection>> connections_;
  std::vector<std::pair<std::weak_ptr<UcxConnection>, Status>> lost_;
};

}  // namespace passband::server
