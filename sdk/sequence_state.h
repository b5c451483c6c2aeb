// SequenceState: what is behind a WorkerSequence: for each layer how much of it
// exists, is sent and is stored, the tail, and for each head slices and hot rows.
//
//   tokens   0 ........ stored ....... sent ........ length
//   tail                      [begin ............... end = length)
//
// begin <= sent: a row is never in neither place. Rows before `stored` can be
// fetched; those between `stored` and `sent` only after a flush.
//
// Units      tokens.
// Threads    one at a time.
// Ownership  shares the configuration; borrows the service.
// Errors     what the service says. A failed call leaves length() unchanged
//            and can be repeated, unless it says otherwise.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "sdk/kv_service.h"
#include "sdk/row_cache.h"
#include "sdk/tail_buffer.h"
#include "sdk/worker_sequence.h"

namespace passband {

// What all sequences of an engine have in common.
struct SequenceConfig {
  KvService* service = nullptr;
  ModelInfo model;
  std::shared_ptr<const Profile> profile;  // may be null
  uint32_t recent = 0;                     // tokens the tail keeps at least
  uint32_t hot_rows = 0;                   // row slots a head
};

class SequenceState {
 public:
  struct Head {
    RowCache cache;
    std::optional<kernels::SliceIndex> slices;  // none without a profile
  };

  struct Layer {
    uint64_t length() const { return tail.end(); }

    uint64_t sent = 0;
    uint64_t stored = 0;
    TailBuffer tail;
    std::unique_ptr<RowSlab> slab;
    std::vector<Head> heads;
  };

  // A sequence of the service that holds `tokens` tokens, of which `known` are
  // named. With a profile the caller brings the slices of those tokens.
  SequenceState(std::shared_ptr<const SequenceConfig> config, SequenceId id, uint64_t tokens,
                uint64_t known);

  const SequenceConfig& config() const { return *config_; }
  SequenceId id() const { return id_; }
  uint64_t attached_tokens() const { return attached_tokens_; }
  uint64_t known_tokens() const { return known_tokens_; }
  bool sealed() const { return sealed_; }
  Layer& layer(uint32_t index) { return layers_[index]; }
  const Layer& layer(uint32_t index) const { return layers_[index]; }
  std::span<const Layer> layers() const { return layers_; }

  // The slices of the tokens both have; this one's were empty.
  void CopySlices(const SequenceState& from);

  // Marks the sequence as part of step `step`; false when it already is.
  bool EnterStep(uint64_t step);

  // Appends `count` tokens within one block to tail and slices. The rows of
  // head h start at rows + h * head_stride. Complete blocks before it are sent.
  void Append(uint32_t layer, const std::byte* rows, size_t head_stride, uint32_t count);
  // Sends the blocks of a layer that are complete.
  Status SendCompleteBlocks(uint32_t layer);
  // Sends everything and waits until it is stored.
  Status Flush();
  // Waits, if need be, until the layer's tokens before `tokens` (<= sent) can
  // be fetched.
  Status EnsureStored(uint32_t layer, uint64_t tokens);

  // Forgets tokens >= `tokens` of one layer that were never sent.
  void TakeBack(uint32_t layer, uint64_t tokens);
  Status Truncate(uint64_t tokens);
  Status ExtendTokenIds(uint64_t first, std::span<const uint32_t> token_ids);
  Status Seal();
  // Closes the sequence in the service, unless it is sealed or `Detach`ed.
  void Close();
  void Detach() { detached_ = true; }

 private:
  Status SendUntil(uint32_t layer, uint64_t tokens);
  Status WaitStored();
  void TruncateLayer(Layer& layer, uint64_t tokens);

  std::shared_ptr<const SequenceConfig> config_;
  SequenceId id_;
  uint64_t attached_tokens_;
  uint64_t known_tokens_;
  uint64_t step_ = 0;
  bool sealed_ = false;
  bool detached_ = false;
  std::vector<Layer> layers_;
  std::vector<std::byte> send_scratch_;
};

struct WorkerSequence::Impl : SequenceState {
  using SequenceState::SequenceState;
};

}  // namespace passband
