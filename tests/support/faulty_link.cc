#include "tests/support/faulty_link.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "transport/wire.h"

namespace passband::test {
namespace {

Time Now() { return std::chrono::steady_clock::now(); }

// A reply whose receive is said to have failed, once it is complete.
class FailingReply final : public IncomingReply {
 public:
  explicit FailingReply(IncomingReply& inside) : inside_(inside) {}
  std::span<const std::byte> header() const override { return inside_.header(); }
  size_t payload_bytes() const override { return inside_.payload_bytes(); }
  bool waits() const override { return inside_.waits(); }
  std::span<const std::byte> data() const override { return inside_.data(); }
  void Receive(std::span<std::byte> into, const transport::UcxMemory* memory,
               transport::Done done) override {
    inside_.Receive(into, memory, [done = std::move(done)](const Status&) mutable {
      std::move(done)(Error(StatusCode::kUnavailable, "the test says that a receive failed"));
    });
  }
  void Refuse(const Status& why) override { inside_.Refuse(why); }

 private:
  IncomingReply& inside_;
};

}  // namespace

const char* Name(LinkFault fault) {
  constexpr std::array<const char*, kLinkFaults> kNames = {
      "drop request", "delay request", "repeat request", "fail send",
      "drop reply",   "delay reply",   "repeat reply",   "fail receive"};
  return kNames[static_cast<size_t>(fault)];
}

struct FaultyLink::LateReply {
  transport::MessageType type{};
  std::vector<std::byte> header;
  std::vector<std::byte> payload;
  Time due;
  int times = 1;
  bool whole = false;  // Its payload has come.
  bool lost = false;
};

class FaultyLink::Copy final : public IncomingReply {
 public:
  explicit Copy(const LateReply& reply) : reply_(reply) {}
  std::span<const std::byte> header() const override { return reply_.header; }
  size_t payload_bytes() const override { return reply_.payload.size(); }
  bool waits() const override { return false; }
  std::span<const std::byte> data() const override { return reply_.payload; }
  void Receive(std::span<std::byte> into, const transport::UcxMemory*,
               transport::Done done) override {
    std::memcpy(into.data(), reply_.payload.data(), std::min(into.size(), reply_.payload.size()));
    std::move(done)(OkStatus());
  }
  void Refuse(const Status&) override {}

 private:
  const LateReply& reply_;
};

FaultyLink::FaultyLink(std::unique_ptr<DataLink> inside, uint64_t seed)
    : inside_(std::move(inside)), random_(seed) {}

FaultyLink::~FaultyLink() = default;

bool FaultyLink::Strikes(LinkFault fault) {
  const double chance = chances_[fault];
  if (chance <= 0 || std::uniform_real_distribution<>(0, 1)(random_) >= chance) return false;
  ++counts_[static_cast<size_t>(fault)];
  return true;
}

Time FaultyLink::Later() {
  const auto most = static_cast<uint64_t>(chances_.longest_delay.count());
  return Now() + std::chrono::milliseconds(random_() % (most + 1));
}

Status FaultyLink::Connect(Handlers handlers) {
  handlers_ = handlers;
  handlers.on_reply = [this](transport::MessageType type, IncomingReply& reply) {
    OnReply(type, reply);
  };
  return inside_->Connect(std::move(handlers));
}

void FaultyLink::Send(const CallPtr& call) {
  if (Strikes(LinkFault::kDropRequest)) return;
  if (Strikes(LinkFault::kDelayRequest)) {
    requests_.push_back({Later(), call});
    return;
  }
  inside_->Send(call);
  if (Strikes(LinkFault::kRepeatRequest) && !call->done) inside_->Send(call);
  if (Strikes(LinkFault::kFailSend) && !call->done) {
    handlers_.on_unsent(call, Error(StatusCode::kInternal, "the test says that a send failed"));
  }
}

void FaultyLink::OnReply(transport::MessageType type, IncomingReply& reply) {
  if (Strikes(LinkFault::kDropReply)) {
    if (reply.waits()) reply.Refuse(Error(StatusCode::kCancelled, "dropped by the test"));
    return;
  }
  if (Strikes(LinkFault::kDelayReply)) return Keep(type, reply, Later(), 1);
  if (Strikes(LinkFault::kRepeatReply)) return Keep(type, reply, Now(), 2);
  if (!Strikes(LinkFault::kFailReceive)) return handlers_.on_reply(type, reply);
  FailingReply failing(reply);
  handlers_.on_reply(type, failing);
}

void FaultyLink::Keep(transport::MessageType type, IncomingReply& reply, Time due, int times) {
  auto late = std::make_shared<LateReply>();
  late->type = type;
  late->header.assign(reply.header().begin(), reply.header().end());
  late->due = due;
  late->times = times;
  late->payload.resize(reply.payload_bytes());
  replies_.push_back(late);
  const auto here = reply.data();
  if (here.size() == late->payload.size()) {
    std::copy(here.begin(), here.end(), late->payload.begin());
    late->whole = true;
    return;
  }
  reply.Receive(late->payload, nullptr, [late](const Status& received) {
    late->whole = true;
    late->lost = !received.ok();
  });
}

bool FaultyLink::Progress() {
  bool moved = inside_->Progress();
  const Time now = Now();
  for (auto it = requests_.begin(); it != requests_.end();) {
    const auto current = it++;
    if (current->due > now) continue;
    const CallPtr call = std::move(current->call);
    requests_.erase(current);
    // Given up or not: it is on its way.
    if (!call->done && inside_->connected()) inside_->Send(call);
    moved = true;
  }
  for (auto it = replies_.begin(); it != replies_.end();) {
    const auto current = it++;
    if (!(*current)->whole || (*current)->due > now) continue;
    const std::shared_ptr<LateReply> late = *current;
    replies_.erase(current);
    for (int i = 0; i < late->times && !late->lost && inside_->connected(); ++i) {
      Copy copy(*late);
      handlers_.on_reply(late->type, copy);
    }
    moved = true;
  }
  return moved;
}

void FaultyLink::Close() {
  requests_.clear();
  replies_.clear();
  inside_->Close();
}

}  // namespace passband::test
