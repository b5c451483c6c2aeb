// Reader: fetches rows, reads ranges and slices of published sequences, and looks at every
// byte; now and then asks for what it must not get.
//
// A reply for a sequence that did not change meanwhile holds its content; for one that did,
// the place's row of any content. Nothing else is right.
//
// Threads    one at a time.
#pragma once

#include <random>
#include <vector>

#include "tests/chaos/client.h"

namespace passband::chaos {

class Reader {
 public:
  Reader(const WorkerOptions& options, BoardMemory& board, Client& client, uint64_t seed)
      : options_(options), board_(board), client_(client), random_(seed) {}

  // One request of sequences of `writer`, whose tenant the client is.
  Status Step(uint32_t writer);
  // All rows of a sequence, read and compared.
  Status ReadAll(const Slot& slot, const SlotView& view);
  // A fetch of a few rows.
  Status FetchSome(const Slot& slot, const SlotView& view);

 private:
  struct Wanted {
    const Slot* slot;
    SlotView view;
    uint32_t layer;
    uint32_t head;
    std::vector<uint32_t> tokens;
  };

  std::vector<Wanted> Choose(uint32_t writer, size_t groups, size_t rows);
  Status Fetch(uint32_t writer);
  Status FetchThese(const std::vector<Wanted>& wanted);
  Status Read(const Slot& slot, const SlotView& view, uint32_t layer, uint64_t first,
              uint64_t count);
  Status Slices(const Slot& slot, const SlotView& view);
  Status Stranger(uint32_t writer);

  const Slot* AnySlot(uint32_t writer, SlotView& view);
  void CheckRow(const Slot& slot, const SlotView& view, uint32_t layer, uint32_t head,
                uint64_t token, std::span<const std::byte> row);
  void CheckSlice(const Slot& slot, const SlotView& view, uint32_t layer, uint32_t head,
                  uint64_t token, std::span<const std::byte> slice);
  void Wrong(const char* what, const SlotView& view, uint32_t layer, uint32_t head, uint64_t token,
             bool still);
  // An answer that says the sequence is not there.
  void CheckGone(const Slot& slot, const SlotView& view, const Status& status);

  const WorkerOptions& options_;
  BoardMemory& board_;
  Client& client_;
  std::mt19937_64 random_;
  const std::shared_ptr<const Profile> profile_ = ChaosProfile();
};

}  // namespace passband::chaos
