#include "services/server/connection.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "transport/codec.h"

namespace passband::server {

Connection::Connection(std::shared_ptr<Session> session, ThreadCounters& counters)
    : session_(std::move(session)), counters_(counters) {}

Connection::~Connection() { Close(); }

Status Connection::Connect(const std::shared_ptr<transport::UcxWorker>& worker,
                           std::span<const std::byte> address,
                           transport::UcxEndpoint::OnError on_lost) {
  auto endpoint = transport::UcxEndpoint::Connect(worker, address, std::move(on_lost));
  if (!endpoint.ok()) return endpoint.status();
  endpoint_ = *std::move(endpoint);
  address_.assign(address.begin(), address.end());
  counters_.connections[Index(transport_)].Add();
  LearnTransport();
  return OkStatus();
}

void Connection::Close() {
  if (endpoint_ == nullptr) return;
  counters_.connections[Index(transport_)].Subtract();
  // Moved out first: what is in flight may end inside its destructor and look at us.
  const auto endpoint = std::move(endpoint_);
}

bool Connection::LeadsTo(std::span<const std::byte> address) const {
  return open() && std::equal(address.begin(), address.end(), address_.begin(), address_.end());
}

void Connection::LearnTransport() {
  if (endpoint_ == nullptr || transport_ != Transport::kUnknown) return;
  const Transport now = TransportOf(endpoint_->transport_name());
  if (now == Transport::kUnknown) return;
  counters_.connections[Index(transport_)].Subtract();
  counters_.connections[Index(now)].Add();
  transport_ = now;
  log::Info("data_connection_opened", {{"session", fmt::format("{:016x}", session_->id())},
                                       {"tenant", session_->tenant()},
                                       {"client", session_->client()},
                                       {"transport", Name(now)}});
}

void Connection::Send(transport::MessageType type, std::span<const std::byte> header,
                      std::span<const std::byte> payload, const transport::UcxMemory* memory,
                      transport::Done done) {
  if (endpoint_ == nullptr) {
    std::move(done)(Error(StatusCode::kCancelled, "the connection is closed"));
    return;
  }
  if (sends_++ == 0) waiting_since_ = std::chrono::steady_clock::now();
  endpoint_->Send(transport::AmId(type), header, payload, {.memory = memory},
                  [self = shared_from_this(), done = std::move(done)](Status status) mutable {
                    --self->sends_;
                    self->waiting_since_ = std::chrono::steady_clock::now();
                    std::move(done)(std::move(status));
                  });
}

}  // namespace passband::server
