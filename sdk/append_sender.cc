#include "sdk/append_sender.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "base/hash.h"
#include "transport/codec.h"

namespace passband {
namespace {

// Smaller ones are cheaper sent whole than announced first.
constexpr uint64_t kRendezvousBytes = uint64_t{32} * 1024;

Time Now() { return std::chrono::steady_clock::now(); }

}  // namespace

// One append, from the copy of its rows to the service's answer.
struct AppendSender::Item {
  std::shared_ptr<Sequence> sequence;
  Lane* lane = nullptr;
  uint64_t number = 0;  // In the lane.
  transport::AppendHeader header{};
  LandingBuffer rows;
};

struct AppendSender::Lane {
  explicit Lane(const AppendLane::Options& options) : order(options) {}
  AppendLane order;
  std::unordered_map<uint64_t, std::shared_ptr<Item>> unanswered;  // By number.
};

struct AppendSender::Sequence {
  explicit Sequence(SequenceId sequence) : id(sequence) {}
  const SequenceId id;
  std::map<uint32_t, Lane> lanes;  // By layer.
  uint64_t unstored = 0;           // Appends, waiting or sent.
  uint64_t sent = 0;
  uint64_t at_server = 0;  // Of those sent and of those given up.
  Status poison;
};

AppendSender::AppendSender(DataChannel& channel, std::shared_ptr<LandingPool> pool,
                           const Options& options)
    : channel_(channel), pool_(std::move(pool)), options_(options) {
  DataChannel::Lock lock(channel_.driver());
  channel_.OnTick([this](Time now) { Tick(now); });
}

AppendSender::~AppendSender() = default;

std::shared_ptr<AppendSender::Sequence> AppendSender::Find(SequenceId id) {
  auto& sequence = sequences_[id];
  if (sequence == nullptr) sequence = std::make_shared<Sequence>(id);
  return sequence;
}

Status AppendSender::WaitForRoom(DataChannel::Lock& lock, const Sequence& sequence,
                                 uint64_t bytes) {
  const auto has_room = [&] { return bytes_ == 0 || bytes_ + bytes <= options_.max_bytes; };
  const bool room = channel_.driver().WaitUntil(
      lock, [&] { return has_room() || !sequence.poison.ok() || !channel_.broken().ok(); },
      Now() + options_.room_timeout);
  PASSBAND_RETURN_IF_ERROR(channel_.broken());
  PASSBAND_RETURN_IF_ERROR(sequence.poison);
  if (room) return OkStatus();
  return Error(StatusCode::kDeadlineExceeded,
               "passband-server at {} took no rows for {} ms ({} bytes wait); sequence {}",
               channel_.server(), options_.room_timeout.count(), bytes_, sequence.id);
}

Status AppendSender::Append(const AppendRequest& request, const Shape& shape) {
  auto item = std::make_shared<Item>();
  {
    DataChannel::Lock lock(channel_.driver());
    item->sequence = Find(request.sequence);
    PASSBAND_RETURN_IF_ERROR(WaitForRoom(lock, *item->sequence, request.rows.size()));
    bytes_ += request.rows.size();
  }
  auto buffer = pool_->Allocate(request.rows.size());
  const Status allocated = buffer.status();
  if (allocated.ok()) {
    item->rows = *std::move(buffer);
    std::memcpy(item->rows.bytes().data(), request.rows.data(), request.rows.size());
    item->header = transport::NewAppend(channel_.session(), 0);
    item->header.sequence = request.sequence.value();
    item->header.first_token = request.first_token;
    item->header.count = request.count;
    item->header.row_bytes = shape.row_bytes;
    item->header.layer = static_cast<uint16_t>(request.layer);
    item->header.kv_heads = shape.kv_heads;
    item->header.checksum = Checksum(item->rows.bytes());
  }
  DataChannel::Lock lock(channel_.driver());
  Sequence& sequence = *item->sequence;
  if (!allocated.ok() || !sequence.poison.ok()) {
    bytes_ -= request.rows.size();
    return allocated.ok() ? sequence.poison : allocated;
  }
  item->lane = &sequence.lanes.try_emplace(request.layer, options_.lane).first->second;
  item->number = item->lane->order.Add();
  item->lane->unanswered.emplace(item->number, item);
  ++sequence.unstored;
  SendDue(sequence, *item->lane, Now());
  channel_.driver().Poll(lock);
  return OkStatus();
}

std::shared_ptr<Call> AppendSender::CallFor(const std::shared_ptr<Item>& item) {
  auto call = std::make_shared<Call>();
  transport::AppendHeader header = item->header;
  header.request.request_id = channel_.NewRequestId();
  call->header = header;
  call->payload = item->rows.bytes();
  call->send.memory = item->rows.memory();
  call->send.mode = call->payload.size() >= kRendezvousBytes ? transport::SendMode::kRendezvous
                                                             : transport::SendMode::kEager;
  call->expected_rows = header.count * uint64_t{header.kv_heads};
  call->owner = item;
  call->deadline = Now() + options_.send_timeout;
  call->bulk = true;
  call->on_done = [this, item](Call& done) { Answered(item, done.status); };
  ++item->sequence->at_server;
  call->on_over = [sequence = item->sequence] { --sequence->at_server; };
  return call;
}

void AppendSender::SendDue(Sequence& sequence, Lane& lane, Time now) {
  while (sequence.poison.ok()) {
    const std::optional<uint64_t> next = lane.order.Next(now);
    if (!next.has_value()) return;
    ++sequence.sent;
    channel_.Submit(CallFor(lane.unanswered.at(*next)));
  }
}

void AppendSender::Answered(const std::shared_ptr<Item>& item, const Status& answer) {
  Sequence& sequence = *item->sequence;
  Lane& lane = *item->lane;
  const Time now = Now();
  --sequence.sent;
  const AppendLane::Verdict verdict = lane.order.Answered(item->number, answer, now);
  if (verdict == AppendLane::Verdict::kAgain && sequence.poison.ok()) {
    SendDue(sequence, lane, now);
    return;
  }
  lane.unanswered.erase(item->number);
  --sequence.unstored;
  bytes_ -= item->rows.bytes().size();
  if (verdict == AppendLane::Verdict::kFailed && sequence.poison.ok()) {
    sequence.poison =
        Annotate(answer, fmt::format("append to sequence {}, layer {}, tokens {} to {}",
                                     sequence.id, item->header.layer, item->header.first_token,
                                     item->header.first_token + item->header.count - 1));
    DropWaiting(sequence);
  }
  SendDue(sequence, lane, now);
  channel_.driver().NotifyDone();
}

void AppendSender::DropWaiting(Sequence& sequence) {
  for (auto& [layer, lane] : sequence.lanes) {
    for (auto it = lane.unanswered.begin(); it != lane.unanswered.end();) {
      if (lane.order.sent(it->first)) {
        ++it;
        continue;
      }
      bytes_ -= it->second->rows.bytes().size();
      --sequence.unstored;
      it = lane.unanswered.erase(it);
    }
  }
}

void AppendSender::Tick(Time now) {
  // What was turned away for want of room is due again.
  for (auto& [id, sequence] : sequences_) {
    if (sequence->unstored == sequence->sent) continue;
    for (auto& [layer, lane] : sequence->lanes) SendDue(*sequence, lane, now);
  }
}

Status AppendSender::Flush(SequenceId id) {
  DataChannel::Lock lock(channel_.driver());
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return channel_.broken();
  const std::shared_ptr<Sequence> sequence = found->second;
  const bool flushed = channel_.driver().WaitUntil(
      lock, [&] { return sequence->unstored == 0; }, Now() + options_.flush_timeout);
  PASSBAND_RETURN_IF_ERROR(sequence->poison);
  PASSBAND_RETURN_IF_ERROR(channel_.broken());
  if (flushed) return OkStatus();
  return Error(StatusCode::kDeadlineExceeded,
               "passband-server at {} did not store {} appends of sequence {} in {} ms",
               channel_.server(), sequence->unstored, id, options_.flush_timeout.count());
}

Status AppendSender::AwaitAnswers(SequenceId id) {
  DataChannel::Lock lock(channel_.driver());
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return channel_.broken();
  const std::shared_ptr<Sequence> sequence = found->second;
  const bool over = channel_.driver().WaitUntil(
      lock, [&] { return sequence->at_server == 0; }, Now() + options_.send_timeout);
  PASSBAND_RETURN_IF_ERROR(channel_.broken());
  if (over) return OkStatus();
  return Error(StatusCode::kDeadlineExceeded,
               "passband-server at {} has not said what became of {} appends of sequence {} that "
               "were given up: try again, or connect again",
               channel_.server(), sequence->at_server, id);
}

void AppendSender::Forget(SequenceId id) {
  DataChannel::Lock lock(channel_.driver());
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return;
  const std::shared_ptr<Sequence> sequence = found->second;
  sequences_.erase(found);
  if (sequence->poison.ok()) {
    sequence->poison = Error(StatusCode::kNotFound, "sequence {} was closed", id);
  }
  DropWaiting(*sequence);
  channel_.driver().NotifyDone();
}

}  // namespace passband
