#include "tests/chaos/board.h"

#include <sys/mman.h>
#include <unistd.h>

#include <chrono>

#include "base/status.h"

namespace passband::chaos {

uint64_t NowNs() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

const char* Name(Operation operation) {
  switch (operation) {
    case Operation::kNone:
    case Operation::kCount:
      return "none";
    case Operation::kConnect:
      return "connect";
    case Operation::kControl:
      return "control";
    case Operation::kAppend:
      return "append";
    case Operation::kFlush:
      return "flush";
    case Operation::kFetch:
      return "fetch";
    case Operation::kRead:
      return "read";
    case Operation::kSlices:
      return "slices";
    case Operation::kDisconnect:
      return "disconnect";
  }
  return "?";
}

void Slot::Publish(const SlotView& view) {
  // A predecessor may have died in the middle.
  const uint64_t odd = version_.load(std::memory_order_relaxed) | 1;
  version_.store(odd, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  state_.store(static_cast<uint32_t>(view.state), std::memory_order_relaxed);
  sequence_.store(view.sequence, std::memory_order_relaxed);
  key_.store(view.content.key, std::memory_order_relaxed);
  branch_.store(view.content.branch, std::memory_order_relaxed);
  after_.store(view.content.after, std::memory_order_relaxed);
  tokens_.store(view.tokens, std::memory_order_relaxed);
  run_.store(view.run, std::memory_order_relaxed);
  version_.store(odd + 1, std::memory_order_release);
}

std::optional<SlotView> Slot::Look() const {
  SlotView out;
  out.version = version_.load(std::memory_order_acquire);
  out.state = static_cast<SlotState>(state_.load(std::memory_order_relaxed));
  out.sequence = sequence_.load(std::memory_order_relaxed);
  out.content = {key_.load(std::memory_order_relaxed), branch_.load(std::memory_order_relaxed),
                 after_.load(std::memory_order_relaxed)};
  out.tokens = tokens_.load(std::memory_order_relaxed);
  out.run = run_.load(std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_acquire);
  if ((out.version & 1) != 0 || !IsStill(out)) return std::nullopt;
  return out;
}

Board::Board(int fd) : fd_(fd) {
  void* at = ::mmap(nullptr, sizeof(BoardMemory), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  PASSBAND_CHECK(at != MAP_FAILED);
  // All zeros is how every atomic of it begins.
  memory_ = static_cast<BoardMemory*>(at);
}

std::unique_ptr<Board> Board::Create() {
  const int fd = ::memfd_create("passband-chaos", 0);
  PASSBAND_CHECK(fd >= 0 && ::ftruncate(fd, sizeof(BoardMemory)) == 0);
  return std::unique_ptr<Board>(new Board(fd));
}

std::unique_ptr<Board> Board::Inherit(int fd) { return std::unique_ptr<Board>(new Board(fd)); }

Board::~Board() {
  ::munmap(memory_, sizeof(BoardMemory));
  ::close(fd_);
}

}  // namespace passband::chaos
