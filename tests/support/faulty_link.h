// FaultyLink: a DataLink around a real one, that loses, delays and repeats what passes through
// it, and says of some transfers that they failed. Which ones, a seed decides.
//
// What it does is what networks and peers do, so bytes must be right and deadlines kept:
// a reply is delivered whole or not at all, late or twice; a request is sent late, twice, or
// never; a transfer that is said to have failed may have arrived.
//
// Units      probabilities, of each request or reply.
// Threads    data_link.h; Set() and Count() with the channel's lock held, or before it is used.
// Ownership  owns the link inside.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/clock.h"
#include "sdk/data_link.h"

namespace passband::test {

enum class LinkFault : uint32_t {
  kDropRequest,
  kDelayRequest,
  kRepeatRequest,
  kFailSend,  // it was sent, and its completion says otherwise
  kDropReply,
  kDelayReply,
  kRepeatReply,
  kFailReceive,  // the rows landed, and the completion says otherwise
  kCount
};
inline constexpr size_t kLinkFaults = static_cast<size_t>(LinkFault::kCount);
const char* Name(LinkFault fault);

class FaultyLink final : public DataLink {
 public:
  struct Chances {
    std::array<double, kLinkFaults> of{};
    std::chrono::milliseconds longest_delay{500};
    double& operator[](LinkFault fault) { return of[static_cast<size_t>(fault)]; }
  };

  FaultyLink(std::unique_ptr<DataLink> inside, uint64_t seed);
  ~FaultyLink() override;

  // Until the first call, nothing happens to what passes.
  void Set(const Chances& chances) { chances_ = chances; }
  uint64_t Count(LinkFault fault) const { return counts_[static_cast<size_t>(fault)]; }

  bool Progress() override;
  StatusOr<bool> Arm() override { return inside_->Arm(); }
  int event_fd() const override { return inside_->event_fd(); }

  Status Connect(Handlers handlers) override;
  void Send(const CallPtr& call) override;
  bool ordered() const override { return inside_->ordered(); }
  void Cancel(const Call& call) override { inside_->Cancel(call); }
  void Close() override;
  bool connected() const override { return inside_->connected(); }
  size_t outstanding() const override { return inside_->outstanding() + replies_.size(); }
  std::span<const std::byte> hello() const override { return inside_->hello(); }
  std::string transport() const override { return inside_->transport(); }
  std::shared_ptr<transport::UcxContext> ucx() const override { return inside_->ucx(); }

 private:
  class Copy;
  struct LateRequest {
    Time due;
    CallPtr call;
  };
  struct LateReply;

  bool Strikes(LinkFault fault);
  Time Later();
  void OnReply(transport::MessageType type, IncomingReply& reply);
  // Takes the reply into memory of our own, to be delivered `times` times.
  void Keep(transport::MessageType type, IncomingReply& reply, Time due, int times);

  const std::unique_ptr<DataLink> inside_;
  std::mt19937_64 random_;
  Chances chances_;
  std::array<uint64_t, kLinkFaults> counts_{};
  Handlers handlers_;
  std::list<LateRequest> requests_;
  std::list<std::shared_ptr<LateReply>> replies_;
};

}  // namespace passband::test
