// DataChannel: one session's connection to a server's data plane, whatever carries it.
//
// Calls go out when the server's window has room, fetches before bulk (appends,
// slices, reads), each kind in its own order. A reply is received straight into
// its call's landing memory. A call that nobody waits for any more stays, with its
// memory, until its reply came or the connection is closed: what comes late is
// dropped, and never lands in memory that has another use.
//
// Threads    safe. Methods below the line "under the lock" are called with the
//            driver's Lock held; callbacks of calls and of OnTick() run under it.
// Ownership  shared: PendingRows keep their channel. After Close() no callback
//            runs, and every call is done.
// Errors     kUnavailable     the connection is lost; every call ends with it
//            kDeadlineExceeded no reply in time
//            kDataLoss        a reply that is not what was asked for, or whose
//                             checksum is wrong
// A reply without the session's MAC is nobody's: it is dropped and counted, and fails nothing.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "sdk/call.h"
#include "sdk/data_link.h"
#include "sdk/progress_driver.h"
#include "transport/codec.h"

namespace passband {

class DataChannel {
 public:
  struct Limits {
    uint64_t max_reply_bytes = 0;
    uint32_t max_rows = 0;
    uint32_t max_outstanding = 0;
  };
  struct Options {
    std::string server;  // As errors name it.
    transport::RequestContext session;
    Limits limits;  // Where no HELLO_ACK tells them.
    std::chrono::milliseconds connect_timeout{5000};
    // Of HELLO over shared memory: an answer takes milliseconds, or never comes.
    std::chrono::milliseconds shared_memory_timeout{5000};
    // Ids of a connection before this one of the session are lower by a replay window.
    uint64_t first_request_id = 1;
    std::chrono::microseconds spin{200};
    // A reply this late after its deadline will not come: the connection is lost.
    std::chrono::milliseconds lost_after{30'000};
    uint32_t max_outstanding = 0;  // Zero: what the server allows.
    std::function<void()> heartbeat;
    std::chrono::milliseconds heartbeat_every{1000};
  };
  using Lock = ProgressDriver::Lock;

  // Connects; where the link has one, says HELLO and waits for the answer.
  static StatusOr<std::shared_ptr<DataChannel>> Connect(Options options,
                                                        std::unique_ptr<DataLink> link);
  ~DataChannel();
  DataChannel(const DataChannel&) = delete;
  DataChannel& operator=(const DataChannel&) = delete;

  // Ends every call, those to come included, and keeps the connection: the server is to
  // hear of the end from us. False: it was lost before.
  bool EndCalls();
  // Ends every call and the connection. From any thread; again does nothing.
  void Close();
  const Limits& limits() const { return limits_; }
  const transport::RequestContext& session() const { return options_.session; }
  std::shared_ptr<transport::UcxContext> ucx() const { return link_->ucx(); }
  const std::string& server() const { return options_.server; }
  std::string transport() const { return transport_; }
  // data_link.h.
  bool ordered() const { return link_->ordered(); }
  uint64_t NewRequestId() { return next_id_.fetch_add(1, std::memory_order_relaxed); }

  ProgressDriver& driver() { return *driver_; }

  // ---- Under the lock

  // Sends the call, or queues it. It may be done at once (connection lost).
  void Submit(std::shared_ptr<Call> call);
  // Waits for the call, until its deadline at most; then it is abandoned.
  Status Wait(Lock& lock, const std::shared_ptr<Call>& call);
  // Nobody will wait for it.
  void Abandon(const std::shared_ptr<Call>& call);
  // Gives the connection up: every call ends with `why`. Not inside a callback.
  void Break(const Status& why);
  // Runs about every 10 ms.
  void OnTick(std::function<void(Time now)> tick) { on_tick_ = std::move(tick); }
  // Replies that did not prove to be the server's.
  uint64_t unproven_replies() const { return unproven_replies_; }
  // Why the connection was lost or closed; OK while it is well.
  const Status& broken() const { return broken_; }
  // Sent calls without a reply, abandoned ones included.
  size_t outstanding() const { return pending_.size(); }

 private:
  DataChannel(Options options, std::unique_ptr<DataLink> link);
  Status Start();
  void SetLimits(const Limits& limits);
  Status Hello();
  DataLink::Handlers NewHandlers();
  // The connection is found lost, inside a callback of the link: it is closed
  // when nobody is inside it.
  void Lose(Status why);
  void AfterProgress(Time now);
  void Tick(Time now);
  void Dispatch();
  void SendNow(const std::shared_ptr<Call>& call);
  void OnUnsent(const std::shared_ptr<Call>& call, const Status& status);
  void OnLost(const Status& why);
  void OnHelloAck(IncomingReply& message);
  // False, and counted: it is not signed with the session's key.
  bool Proven(const transport::ReplyHeader& reply, const IncomingReply& message);
  void OnReply(transport::MessageType type, IncomingReply& message);
  void Accept(const std::shared_ptr<Call>& call, const transport::ReplyHeader& reply,
              IncomingReply& message);
  Status CheckReply(Call& call, const transport::ReplyHeader& reply,
                    const IncomingReply& message) const;
  void End(std::shared_ptr<Call> call, Status status);
  void EndAll(const Status& status);
  Status TimedOut(const Call& call) const;

  Options options_;
  std::unique_ptr<DataLink> link_;
  std::unique_ptr<ProgressDriver> driver_;
  Limits limits_;
  std::string transport_;
  std::atomic<uint64_t> next_id_;

  // Guarded by the driver's lock:
  std::unordered_map<uint64_t, std::shared_ptr<Call>> pending_;
  std::deque<std::shared_ptr<Call>> queue_;
  std::deque<std::shared_ptr<Call>> bulk_queue_;
  uint32_t bulk_pending_ = 0;
  uint32_t window_ = 1;
  uint64_t unproven_replies_ = 0;
  bool dispatch_ = false;
  Status broken_;
  bool close_link_ = false;
  Time next_tick_;
  std::function<void(Time)> on_tick_;
};

}  // namespace passband
