#include "sdk/data_channel.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/hash.h"
#include "base/log.h"
#include "base/random.h"

namespace passband {
namespace {

using transport::MessageType;
using transport::ReplyHeader;

constexpr auto kTick = std::chrono::milliseconds(10);
// The reply to a request that could not be sent may be on its way.
constexpr auto kReplyAfterRefusal = std::chrono::milliseconds(200);

Time Now() { return std::chrono::steady_clock::now(); }

// A fifth of the window, and one place at least, is kept for fetches.
uint32_t BulkWindow(uint32_t window) {
  return window == 1 ? 1 : window - std::max<uint32_t>(1, window / 5);
}

MessageType ReplyType(MessageType request) {
  return static_cast<MessageType>(static_cast<uint8_t>(request) + 1);
}

uint32_t MicrosecondsLeft(Time deadline, Time now) {
  const auto left = std::chrono::duration_cast<std::chrono::microseconds>(deadline - now).count();
  return static_cast<uint32_t>(std::clamp<int64_t>(left, 1, UINT32_MAX));
}

void SignHeader(const MacKey& key, Call& call) {
  std::visit(
      [&](auto& header) {
        if constexpr (requires { Sign(key, header, call.payload); }) {
          Sign(key, header, call.payload);
        } else {
          Sign(key, header);
        }
      },
      call.header);
}

}  // namespace

DataChannel::DataChannel(Options options, std::unique_ptr<DataLink> link)
    : options_(std::move(options)),
      link_(std::move(link)),
      next_id_(options_.first_request_id),
      next_tick_(Now()) {}

DataChannel::~DataChannel() {
  Close();
  // Transfers in flight end here, and their callbacks look at this object.
  if (driver_ != nullptr) driver_.reset();
  link_.reset();
}

StatusOr<std::shared_ptr<DataChannel>> DataChannel::Connect(Options options,
                                                            std::unique_ptr<DataLink> link) {
  std::shared_ptr<DataChannel> channel(new DataChannel(std::move(options), std::move(link)));
  PASSBAND_RETURN_IF_ERROR(channel->Start());
  if (channel->link_->hello().empty()) {
    channel->SetLimits(channel->options_.limits);
  } else {
    PASSBAND_RETURN_IF_ERROR(channel->Hello());
  }
  channel->transport_ = channel->link_->transport();
  channel->driver_->StartPump();
  return channel;
}

Status DataChannel::Start() {
  driver_ = std::make_unique<ProgressDriver>(
      *link_, ProgressDriver::Options{
                  .spin = options_.spin,
                  .after_progress = [this](Time now) { AfterProgress(now); },
                  .busy =
                      [this] {
                        return !pending_.empty() || !queue_.empty() || !bulk_queue_.empty() ||
                               link_->outstanding() > 0;
                      },
                  .heartbeat = options_.heartbeat,
                  .heartbeat_every = options_.heartbeat_every,
              });
  Lock lock(*driver_);
  return link_->Connect(NewHandlers());
}

DataLink::Handlers DataChannel::NewHandlers() {
  return {
      .on_reply =
          [this](MessageType type, IncomingReply& message) {
            type == MessageType::kHelloAck ? OnHelloAck(message) : OnReply(type, message);
          },
      .on_error =
          [this](const auto& call, const Status& why) {
            End(call, why.code() == StatusCode::kDeadlineExceeded ? TimedOut(*call) : why);
          },
      .on_unsent = [this](const auto& call, const Status& why) { OnUnsent(call, why); },
      .on_lost = [this](const Status& why) { OnLost(why); },
  };
}

void DataChannel::SetLimits(const Limits& limits) {
  limits_ = limits;
  limits_.max_outstanding = std::max<uint32_t>(1, limits.max_outstanding);
  window_ = options_.max_outstanding == 0
                ? limits_.max_outstanding
                : std::min(limits_.max_outstanding, options_.max_outstanding);
}

Status DataChannel::Hello() {
  auto call = std::make_shared<Call>();
  call->header = transport::NewHello(options_.session, NewRequestId(), RandomU64());
  call->payload = link_->hello();
  call->send.mode = transport::SendMode::kEager;
  call->deadline = Now() + (link_->transport() == "shm"
                                ? std::min(options_.shared_memory_timeout, options_.connect_timeout)
                                : options_.connect_timeout);
  Lock lock(*driver_);
  Submit(call);
  const Status status = Wait(lock, call);
  if (status.ok()) return OkStatus();
  return Annotate(status,
                  fmt::format("the data plane of passband-server at {} does not answer over "
                              "{} (is its data port reachable? see --net-devices)",
                              options_.server, link_->transport()));
}

bool DataChannel::EndCalls() {
  Lock lock(*driver_);
  if (!broken_.ok()) return false;
  broken_ = Error(StatusCode::kCancelled, "the client of passband-server at {} is closed",
                  options_.server);
  EndAll(broken_);
  return true;
}

void DataChannel::Close() {
  if (driver_ == nullptr) return;
  EndCalls();
  {
    Lock lock(*driver_);
    on_tick_ = nullptr;
    link_->Close();
  }
  driver_->Stop();
}

void DataChannel::Break(const Status& why) {
  if (!broken_.ok()) return;
  broken_ = why;
  EndAll(broken_);
  link_->Close();
}

void DataChannel::Lose(Status why) {
  if (!broken_.ok()) return;
  broken_ = std::move(why);
  close_link_ = true;
}

void DataChannel::OnLost(const Status& why) {
  const bool known = why.code() != StatusCode::kUnauthenticated;
  Lose(Error(known ? StatusCode::kUnavailable : why.code(),
             "lost the connection to passband-server at {} ({}): see that it runs, then "
             "connect again",
             options_.server, Message(why)));
}

void DataChannel::AfterProgress(Time now) {
  if (close_link_) {
    close_link_ = false;
    EndAll(broken_);
    link_->Close();
  }
  if (dispatch_) Dispatch();
  if (now >= next_tick_) Tick(now);
}

void DataChannel::Tick(Time now) {
  next_tick_ = now + kTick;
  std::vector<std::shared_ptr<Call>> late;
  for (const auto& [id, call] : pending_) {
    if (now >= call->deadline) late.push_back(call);
  }
  for (const auto& call : late) {
    if (now >= call->deadline + options_.lost_after) {
      Lose(Error(StatusCode::kUnavailable,
                 "passband-server at {} left a request without an answer for {} s: it hangs, or is "
                 "out of reach; connect again",
                 options_.server, options_.lost_after.count() / 1000));
    } else if (call->on_done && !call->abandoned) {
      // Nobody waits in Wait(): tell whoever sent it.
      call->abandoned = true;
      if (call->status.ok()) call->status = TimedOut(*call);
      std::exchange(call->on_done, nullptr)(*call);
      driver_->NotifyDone();
    }
  }
  if (on_tick_) on_tick_(now);
}

void DataChannel::Submit(std::shared_ptr<Call> call) {
  if (!broken_.ok()) {
    End(std::move(call), broken_);
    return;
  }
  (call->bulk ? bulk_queue_ : queue_).push_back(std::move(call));
  Dispatch();
}

void DataChannel::Dispatch() {
  dispatch_ = false;
  const auto take = [](auto& queue) {
    std::shared_ptr<Call> call = std::move(queue.front());
    queue.pop_front();
    return call;
  };
  while (broken_.ok() && pending_.size() < window_) {
    if (!queue_.empty()) {
      SendNow(take(queue_));
    } else if (!bulk_queue_.empty() && bulk_pending_ < BulkWindow(window_)) {
      SendNow(take(bulk_queue_));
    } else {
      return;
    }
  }
}

void DataChannel::SendNow(const std::shared_ptr<Call>& call) {
  if (call->abandoned || call->done) return;
  const Time now = Now();
  if (now >= call->deadline) {
    End(call, TimedOut(*call));
    return;
  }
  // In the order of sending: the server takes no id that is far behind.
  call->request().request_id = NewRequestId();
  call->request().deadline_us = MicrosecondsLeft(call->deadline, now);
  SignHeader(options_.session.key, *call);
  call->sent = true;
  pending_.emplace(call->id(), call);
  if (call->bulk) ++bulk_pending_;
  link_->Send(call);
  driver_->NotifySent();
}

void DataChannel::OnUnsent(const std::shared_ptr<Call>& call, const Status& status) {
  if (call->done) return;
  if (!link_->connected() || status.code() == StatusCode::kCancelled) {
    End(call, broken_.ok() ? Annotate(status, "passband-server at " + options_.server) : broken_);
    return;
  }
  // Refused by the server: the reply says why, unless it never comes.
  call->status = Annotate(status, fmt::format("passband-server at {} refused", options_.server));
  call->deadline = std::min(call->deadline, Now() + kReplyAfterRefusal);
}

bool DataChannel::Proven(const ReplyHeader& reply, const IncomingReply& message) {
  // The text of an error comes with its header.
  const bool error = reply.code != 0;
  const auto text = error ? message.data() : std::span<const std::byte>();
  if (text.size() == (error ? message.payload_bytes() : 0) &&
      transport::VerifyReplyMac(options_.session.key, message.header(), text)) {
    return true;
  }
  ++unproven_replies_;
  // Whoever sends many does not fill the log.
  if (std::has_single_bit(unproven_replies_)) {
    log::Warn("reply_unproven", {{"server", options_.server},
                                 {"request", reply.request_id},
                                 {"dropped", unproven_replies_}});
  }
  return false;
}

void DataChannel::OnHelloAck(IncomingReply& message) {
  const auto ack = transport::ParseHelloAck(message.header(), message.payload_bytes());
  if (!ack.ok()) {
    log::Warn("hello_ack_malformed", {{"server", options_.server}, {"error", ack.status()}});
    return;
  }
  if (!Proven(ack->reply, message)) return;
  const auto found = pending_.find(ack->reply.request_id);
  if (found == pending_.end() || found->second->request().type != MessageType::kHello) return;
  Status status = transport::ReplyStatus(ack->reply, message.data());
  if (status.ok() && ack->reply.epoch != options_.session.epoch) {
    status = Error(StatusCode::kUnauthenticated, "epoch {} where {} was expected", ack->reply.epoch,
                   options_.session.epoch);
  }
  if (status.ok()) SetLimits({ack->max_reply_bytes, ack->max_rows, ack->max_outstanding});
  End(found->second, std::move(status));
}

void DataChannel::OnReply(MessageType type, IncomingReply& message) {
  const auto reply = transport::ParseReply(message.header(), type, message.payload_bytes());
  if (!reply.ok()) {
    log::Warn("reply_malformed", {{"server", options_.server}, {"error", reply.status()}});
    message.Refuse(reply.status());
    return;
  }
  if (!Proven(*reply, message)) {
    message.Refuse(Error(StatusCode::kUnauthenticated, "not signed with the session's key"));
    return;
  }
  const auto found = pending_.find(reply->request_id);
  if (found == pending_.end()) {
    message.Refuse(Error(StatusCode::kNotFound, "no request {}", reply->request_id));
    return;
  }
  const std::shared_ptr<Call> call = found->second;
  if (ReplyType(call->request().type) != type || reply->epoch != options_.session.epoch) {
    const Status wrong = Error(StatusCode::kDataLoss,
                               "passband-server at {} answered request {} with {} of epoch {}",
                               options_.server, call->id(), ToString(type), reply->epoch);
    message.Refuse(wrong);
    End(call, wrong);
    return;
  }
  Accept(call, *reply, message);
}

Status DataChannel::CheckReply(Call& call, const ReplyHeader& reply,
                               const IncomingReply& message) const {
  if (reply.code != 0) return transport::ReplyStatus(reply, message.data());
  if (reply.rows == call.expected_rows && message.payload_bytes() == call.landing.size()) {
    return OkStatus();
  }
  return Error(StatusCode::kDataLoss,
               "passband-server at {} answered {} rows in {} bytes where {} in {} were asked for",
               options_.server, reply.rows, message.payload_bytes(), call.expected_rows,
               call.landing.size());
}

void DataChannel::Accept(const std::shared_ptr<Call>& call, const ReplyHeader& reply,
                         IncomingReply& message) {
  Status status = call->abandoned ? TimedOut(*call) : CheckReply(*call, reply, message);
  if (!status.ok() || call->landing.empty()) {
    if (message.waits()) message.Refuse(status);
    End(call, std::move(status));
    return;
  }
  const bool check = (call->request().flags & transport::kWantChecksum) != 0;
  message.Receive(call->landing, call->landing_memory, [this, call, check, reply](Status received) {
    if (received.ok() && check &&
        ((reply.flags & transport::kHasChecksum) == 0 ||
         Checksum(call->landing) != reply.checksum)) {
      received = Error(StatusCode::kDataLoss,
                       "the reply of passband-server at {} to request {} fails its checksum",
                       options_.server, call->id());
    }
    if (!received.ok() && !broken_.ok()) received = broken_;
    End(call, std::move(received));
  });
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): the reference in pending_ goes.
void DataChannel::End(std::shared_ptr<Call> call, Status status) {
  if (call->done) return;
  if (const auto found = pending_.find(call->id());
      found != pending_.end() && found->second == call) {
    pending_.erase(found);
    if (call->bulk) --bulk_pending_;
    dispatch_ = true;
  }
  call->done = true;
  if (!call->abandoned) call->status = std::move(status);
  if (call->on_done) std::exchange(call->on_done, nullptr)(*call);
  if (call->on_over) std::exchange(call->on_over, nullptr)();
  driver_->NotifyDone();
}

void DataChannel::EndAll(const Status& status) {
  std::vector<std::shared_ptr<Call>> calls(queue_.begin(), queue_.end());
  calls.insert(calls.end(), bulk_queue_.begin(), bulk_queue_.end());
  for (const auto& [id, call] : pending_) calls.push_back(call);
  queue_.clear();
  bulk_queue_.clear();
  for (const auto& call : calls) End(call, status);
}

Status DataChannel::TimedOut(const Call& call) const {
  return Error(StatusCode::kDeadlineExceeded,
               "passband-server at {} did not answer request {} in time", options_.server,
               std::visit([](const auto& h) { return h.request.request_id; }, call.header));
}

Status DataChannel::Wait(Lock& lock, const std::shared_ptr<Call>& call) {
  if (driver_->WaitUntil(
          lock, [&] { return call->done; }, call->deadline))
    return call->status;
  if (!broken_.ok()) return broken_;
  Status status = call->status.ok() ? TimedOut(*call) : call->status;
  Abandon(call);
  return status;
}

void DataChannel::Abandon(const std::shared_ptr<Call>& call) {
  if (call->done || call->abandoned) return;
  call->abandoned = true;
  call->on_done = nullptr;
  if (!call->sent) {
    std::erase(call->bulk ? bulk_queue_ : queue_, call);
    call->done = true;
    if (call->on_over) std::exchange(call->on_over, nullptr)();
    return;
  }
  link_->Cancel(*call);
  // Left alone, it counts as late from its deadline on.
  driver_->NotifySent();
}

}  // namespace passband
