// Writer: opens, appends, forks, truncates, seals and closes sequences of its own, and
// publishes what is stored. It takes over the slots of a predecessor that was killed.
//
// Threads    one at a time.
#pragma once

#include <random>
#include <vector>

#include "tests/chaos/reader.h"

namespace passband::chaos {

class Writer {
 public:
  Writer(const WorkerOptions& options, BoardMemory& board, Client& client, uint64_t seed)
      : options_(options),
        board_(board),
        client_(client),
        reader_(options, board, client, seed + 1),
        random_(seed) {}

  // After every connect: judges what is left of earlier sessions, and clears it away.
  Status TakeOver();
  // One change or look.
  Status Step();

 private:
  Slot& SlotAt(size_t index) { return board_.slots[options_.index][index]; }
  SlotView ViewOf(size_t index) { return SlotAt(index).Look().value_or(SlotView{}); }

  Status JudgeLeft(Slot& slot, const SlotView& view);
  Status CloseStrays();
  Status OpenNew(size_t index);
  Status ForkInto(size_t index);
  Status Grow(size_t index, SlotView view, uint64_t tokens);
  Status AppendLayer(const SlotView& view, uint32_t layer, uint64_t first, uint64_t tokens);
  Status NameTokens(const SlotView& view);
  Status GrowLayers(const SlotView& view, uint64_t tokens);
  void Repair(size_t index, const SlotView& view);
  Status Truncate(size_t index, SlotView view);
  Status Seal(size_t index, SlotView view);
  Status Close(size_t index, const SlotView& view);
  Status MakeRoom();
  Status Step(size_t index);

  const WorkerOptions& options_;
  BoardMemory& board_;
  Client& client_;
  Reader reader_;
  std::mt19937_64 random_;
  bool strays_ = false;  // There may be sequences that are not on the board.
};

}  // namespace passband::chaos
