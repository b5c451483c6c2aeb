// Call: one request on the data plane, from its header to what became of it.
//
//     queued -> sent -> done          (or abandoned, then done when the reply came)
//
// Threads    guarded by the lock of the DataChannel it was given to.
// Ownership  shared by whoever waits, the channel, and UCX's callbacks: the memory
//            it sends from and receives into outlives every transfer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <variant>

#include "base/clock.h"
#include "base/status.h"
#include "transport/ucx_endpoint.h"
#include "transport/ucx_memory.h"
#include "transport/wire.h"

namespace passband {

struct Call {
  using Header =
      std::variant<transport::HelloHeader, transport::FetchHeader, transport::AppendHeader,
                   transport::SlicesHeader, transport::ReadHeader>;

  // What to send. The channel sets the deadline and the MAC when it does.
  Header header;
  std::span<const std::byte> payload;
  transport::SendOptions send;

  // Where the reply goes, and what it must hold to be one.
  std::span<std::byte> landing;
  const transport::UcxMemory* landing_memory = nullptr;
  uint64_t expected_rows = 0;

  // Keeps payload and landing alive.
  std::shared_ptr<const void> owner;
  Time deadline;
  // Behind the fetches in the queue, and never in all the places of the window.
  bool bulk = false;
  // Runs once, with the channel's lock held, when the call is done.
  std::function<void(Call&)> on_done;
  // Runs once, likewise, when the server is through with it: its reply came, it was never
  // sent, or the connection is lost. After on_done, when it was given up before.
  std::function<void()> on_over;

  bool sent = false;
  bool abandoned = false;  // Nobody waits; its memory stays until the reply came.
  bool done = false;
  Status status;

  transport::RequestHeader& request() {
    return std::visit([](auto& h) -> transport::RequestHeader& { return h.request; }, header);
  }
  uint64_t id() const {
    return std::visit([](const auto& h) { return h.request.request_id; }, header);
  }
};

}  // namespace passband
