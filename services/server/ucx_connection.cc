#include "services/server/ucx_connection.h"

#include <algorithm>
#include <string>
#include <utility>

#include "transport/codec.h"

namespace passband::server {

using transport::HeaderBytes;

Status UcxConnection::Connect(const std::shared_ptr<transport::UcxWorker>& worker,
                              std::span<const std::byte> address,
                              transport::UcxEndpoint::OnError on_lost) {
  auto endpoint = transport::UcxEndpoint::Connect(worker, address, std::move(on_lost));
  if (!endpoint.ok()) return endpoint.status();
  endpoint_ = *std::move(endpoint);
  address_.assign(address.begin(), address.end());
  CountOpen();
  LearnTransport();
  return OkStatus();
}

void UcxConnection::Close() {
  if (endpoint_ == nullptr) return;
  CountClosed();
  // Moved out first: what is in flight may end inside its destructor and look at us.
  const auto endpoint = std::move(endpoint_);
}

bool UcxConnection::LeadsTo(std::span<const std::byte> address) const {
  return open() && std::equal(address.begin(), address.end(), address_.begin(), address_.end());
}

void UcxConnection::LearnTransport() {
  if (endpoint_ == nullptr || transport() != Transport::kUnknown) return;
  const Transport now = TransportOf(endpoint_->transport_name());
  if (now == Transport::kUnknown) return;
  CountClosed();
  SetTransport(now);
  CountOpen();
  LogOpened();
}

void UcxConnection::Send(const transport::ReplyHeader& reply, std::span<const std::byte> payload,
                         const transport::UcxMemory* memory, transport::Done done) {
  SendBytes(reply.type, HeaderBytes(reply), payload, memory, std::move(done));
}

void UcxConnection::SendError(const transport::ReplyHeader& reply, const Status& status) {
  transport::ReplyHeader error = reply;
  // On the heap: the text must not move while it is sent.
  auto text = std::make_unique<std::string>(transport::SetError(error, status));
  const auto payload = std::as_bytes(std::span<const char>(*text));
  transport::Sign(session().secret(), error, payload);
  SendBytes(error.type, HeaderBytes(error), payload, nullptr,
            [text = std::move(text)](const Status&) {});
}

void UcxConnection::SendHelloAck(transport::HelloAckHeader ack, const Status& status,
                                 transport::Done done) {
  auto text = std::make_unique<std::string>(status.ok() ? std::string()
                                                        : transport::SetError(ack.reply, status));
  const auto payload = std::as_bytes(std::span<const char>(*text));
  transport::Sign(session().secret(), ack, payload);
  SendBytes(ack.reply.type, HeaderBytes(ack), payload, nullptr,
            [text = std::move(text), done = std::move(done)](Status sent) mutable {
              std::move(done)(std::move(sent));
            });
}

void UcxConnection::SendBytes(transport::MessageType type, std::span<const std::byte> header,
                              std::span<const std::byte> payload,
                              const transport::UcxMemory* memory, transport::Done done) {
  if (endpoint_ == nullptr) {
    std::move(done)(Error(StatusCode::kCancelled, "the connection is closed"));
    return;
  }
  if (sends_++ == 0) waiting_since_ = std::chrono::steady_clock::now();
  endpoint_->Send(transport::AmId(type), header, payload, {.memory = memory},
                  [self = std::static_pointer_cast<UcxConnection>(shared_from_this()),
                   done = std::move(done)](Status status) mutable {
                    --self->sends_;
                    self->waiting_since_ = std::chrono::steady_clock::now();
                    std::move(done)(std::move(status));
                  });
}

}  // namespace passband::server
