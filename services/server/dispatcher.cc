#include "services/server/dispatcher.h"

#include <utility>

#include "transport/codec.h"

namespace passband::server {
namespace {

using transport::MessageType;

constexpr std::chrono::milliseconds kRetryAfter{5};

}  // namespace

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

Dispatcher::Dispatcher(const Parts& parts, Staging& staging, ReplyQueue& queue,
                       std::function<void()> wake)
    : limits_(parts.limits),
      restores_(parts.store, std::move(wake)),
      fetch_(parts.store, queue, restores_, parts.limits),
      append_(parts.store, staging, restores_, parts.arena),
      slices_(parts.store, parts.profiles, parts.slices, queue, restores_, parts.limits),
      read_(parts.store, queue, restores_, parts.limits) {}

// The request itself is among the outstanding ones by now.
Status Dispatcher::Admit(const Connection& connection) const {
  if (!admitting_) return Error(StatusCode::kUnavailable, "the server is stopping");
  if (connection.outstanding() <= limits_.max_outstanding) return OkStatus();
  return WithRetryAfter(
      Error(StatusCode::kResourceExhausted,
            "{} requests of the session are without an answer, the limit", limits_.max_outstanding),
      kRetryAfter);
}

void Dispatcher::Serve(Request request, MessageType type, std::span<const std::byte> header,
                       IncomingPayload& payload) {
  const auto refuse = [&](const Status& why) {
    payload.Refuse(why);
    request.Fail(why);
  };
  if (const Status admitted = Admit(request.connection()); !admitted.ok()) return refuse(admitted);
  if (type == MessageType::kAppend) {
    const auto append = transport::ParseAppend(header, payload.bytes());
    if (!append.ok()) return refuse(append.status());
    return append_.Serve(std::move(request), *append, payload);
  }
  if (payload.waits()) {
    return refuse(Error(StatusCode::kInvalidArgument, "a {} is to be sent eagerly",
                        transport::ToString(type)));
  }
  if (type == MessageType::kFetch) {
    const auto fetch = transport::ParseFetch(header, payload.data());
    if (!fetch.ok()) return refuse(fetch.status());
    return fetch_.Serve(std::move(request), *fetch);
  }
  if (type == MessageType::kSlices) {
    const auto slices = transport::ParseSlices(header, payload.bytes());
    if (!slices.ok()) return refuse(slices.status());
    return slices_.Serve(std::move(request), *slices);
  }
  const auto read = transport::ParseRead(header, payload.bytes());
  if (!read.ok()) return refuse(read.status());
  read_.Serve(std::move(request), *read);
}

}  // namespace passband::server
