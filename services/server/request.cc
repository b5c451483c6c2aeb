#include "services/server/request.h"

#include <algorithm>
#include <utility>

#include "base/hash.h"
#include "transport/codec.h"

namespace passband::server {
namespace {

using transport::ReplyHeader;

Time Now() { return std::chrono::steady_clock::now(); }

uint32_t Microseconds(Duration duration) {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
  return static_cast<uint32_t>(std::clamp<int64_t>(us, 0, UINT32_MAX));
}

}  // namespace

Request::Request(std::shared_ptr<Connection> connection, std::shared_ptr<ReplyPath> path,
                 const transport::RequestHeader& header, Method method, Time arrival)
    : connection_(std::move(connection)),
      path_(std::move(path)),
      header_(header),
      method_(method),
      arrival_(arrival),
      deadline_(header.deadline_us == 0 ? Time::max()
                                        : arrival + std::chrono::microseconds(header.deadline_us)) {
  connection_->AddOutstanding();
}

Request::~Request() {
  if (connection_ == nullptr) return;
  connection_->Count(method_, StatusCode::kCancelled, Seconds(Now() - arrival_));
  End();
}

std::shared_ptr<Connection> Request::End() {
  connection_->DropOutstanding();
  return std::exchange(connection_, nullptr);
}

Status Request::CheckAlive(Time now) const {
  if (!connection_->open() || !path_->open())
    return Error(StatusCode::kCancelled, "the client is gone");
  if (now < deadline_) return OkStatus();
  return Error(StatusCode::kDeadlineExceeded, "the {} had {} us", Name(method_),
               header_.deadline_us);
}

ReplyHeader Request::NewReply() const {
  ReplyHeader reply = transport::NewReply(header_);
  reply.service_us = Microseconds(Now() - arrival_);
  return reply;
}

void Request::Reply(std::span<const std::byte> payload, uint64_t rows,
                    const transport::UcxMemory* memory, transport::Done done) {
  ReplyHeader reply = NewReply();
  reply.rows = rows;
  reply.payload_bytes = payload.size();
  if (wants_checksum() && !payload.empty()) {
    reply.flags |= transport::kHasChecksum;
    reply.checksum = Checksum(payload);
  }
  transport::Sign(connection_->session().secret(), reply, {});
  const std::shared_ptr<Connection> connection = End();
  path_->Send(reply, payload, memory,
              [connection, method = method_, arrival = arrival_,
               done = std::move(done)](Status sent) mutable {
                connection->Count(method, sent.code(), Seconds(Now() - arrival));
                std::move(done)(std::move(sent));
              });
}

void Request::Fail(const Status& status) {
  const ReplyHeader reply = NewReply();
  const std::shared_ptr<Connection> connection = End();
  connection->Count(method_, status.code(), Seconds(Now() - arrival_));
  path_->SendError(reply, status);
}

}  // namespace passband::server
