// Board: memory that the driver and its workers share: which sequences there are, what
// every worker is doing, what came of it. It outlives any process but the driver.
//
// Units      nanoseconds of CLOCK_MONOTONIC, which all processes of a host share.
// Threads    atomics; a slot has one writer, the worker that owns it.
// Ownership  Board::Create() makes the memory, the file descriptor is inherited.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "tests/chaos/content.h"

namespace passband::chaos {

inline constexpr uint32_t kMaxWorkers = 16;
inline constexpr uint32_t kSlotsOfWriter = 6;
inline constexpr uint32_t kCodes = 17;  // As gRPC's.

uint64_t NowNs();

// kSealing: somebody asked, and has not heard what came of it.
enum class SlotState : uint32_t { kFree, kOpen, kSealing, kSealed };

struct SlotView {
  SlotState state = SlotState::kFree;
  uint64_t sequence = 0;
  Content content;
  uint64_t tokens = 0;  // Stored in every layer, at least.
  uint64_t run = 0;     // Of the server, when it was published.
  uint64_t version = 0;
};

// A sequence that others may read. Published by its owner.
class Slot {
 public:
  void Publish(const SlotView& view);
  void Free() { Publish({}); }
  // None while it is being changed.
  std::optional<SlotView> Look() const;
  bool IsStill(const SlotView& seen) const {
    return version_.load(std::memory_order_acquire) == seen.version;
  }

 private:
  std::atomic<uint64_t> version_;  // Odd: being changed.
  std::atomic<uint32_t> state_;
  std::atomic<uint64_t> sequence_, key_, branch_, after_, tokens_, run_;
};

enum class Operation : uint32_t {
  kNone,
  kConnect,
  kControl,
  kAppend,
  kFlush,
  kFetch,
  kRead,
  kSlices,
  kDisconnect,
  kCount
};
const char* Name(Operation operation);

struct WorkerRecord {
  // What it is doing now; begun_ns is zero between calls.
  std::atomic<uint32_t> operation;
  std::atomic<uint64_t> begun_ns, allowed_ns;
  // How long the driver had it stopped, in all; counted before it goes on. And what that
  // was when the call began.
  std::atomic<uint64_t> stopped_ns, stopped_before_ns;
  std::atomic<uint64_t> served_ns;  // When a request last succeeded.
  std::atomic<uint64_t> connects;

  std::atomic<uint64_t> requests, fetched_rows, read_rows, slices, appended_rows;
  std::atomic<uint64_t> seals;
  std::atomic<uint64_t> wrong;        // Bytes: rows or slices that are not what was written.
  std::atomic<uint64_t> lost;         // A sealed sequence that is gone.
  std::atomic<uint64_t> resurrected;  // An unsealed one that survived its server.
  std::atomic<uint64_t> gone;         // Unsealed ones rightly NOT_FOUND after a restart.
  std::atomic<uint64_t> kept;         // Sealed ones rightly back after a restart.
  std::atomic<uint64_t> hangs;        // Calls that ended later than they may.
  std::atomic<uint64_t> longest_over_ns;
  std::array<std::atomic<uint64_t>, kCodes> codes;
};

struct BoardMemory {
  std::atomic<uint32_t> stop;
  std::atomic<uint64_t> run;  // Of the server, even; odd while there is none.
  std::atomic<uint64_t> restarts;
  std::atomic<uint32_t> pressure;  // Writers only grow.
  // Of the server that runs, as last sampled: blocks that left RAM, or came back to it.
  std::atomic<uint64_t> moved_blocks;
  std::array<WorkerRecord, kMaxWorkers> workers;
  std::array<std::array<Slot, kSlotsOfWriter>, kMaxWorkers> slots;
};

class Board {
 public:
  static std::unique_ptr<Board> Create();
  static std::unique_ptr<Board> Inherit(int fd);
  ~Board();
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  int fd() const { return fd_; }
  BoardMemory& operator*() { return *memory_; }
  BoardMemory* operator->() { return memory_; }

 private:
  explicit Board(int fd);
  int fd_;
  BoardMemory* memory_;
};

}  // namespace passband::chaos
