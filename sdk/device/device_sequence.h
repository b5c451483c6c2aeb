// DeviceSequence: what a GPU worker holds of one sequence, in device memory.
//
//   full    the rows of every token
//   fasa-c  the rows and the slices of every token
//   fasa-m  the slices of every token, and hot rows; the rows are in the service. The
//           newest block of every layer is also in pinned host memory (the tail), until
//           it is complete and sent.
//
// Units      tokens, bytes. Memory is taken for `capacity` tokens at once.
// Threads    one at a time.
// Ownership  owns its memory, borrows the service; closes its sequence there when
//            destroyed, unless sealed.
// Errors     what the service says; kResourceExhausted with the bytes that are missing.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/hot_rows.h"
#include "kernels/cuda/tile.h"
#include "sdk/kv_service.h"

namespace passband {

enum class DeviceMethod : uint8_t { kFull, kFasaC, kFasaM };

// What all sequences of an engine have in common.
struct DeviceShape {
  ModelInfo model;
  DeviceMethod method = DeviceMethod::kFull;
  kernels::cuda::SliceShape slice;  // not for kFull
  uint32_t slots = 0;               // hot rows of a problem; kFasaM
  KvService* service = nullptr;     // kFasaM
  kernels::cuda::StreamHandle stream = nullptr;

  bool has_rows() const { return method != DeviceMethod::kFasaM; }
  bool has_slices() const { return method != DeviceMethod::kFull; }
  size_t row_bytes() const { return model.head.row_bytes(); }
  uint32_t heads() const { return model.layers * model.kv_heads; }
};

class DeviceSequence {
 public:
  static constexpr uint32_t kBlockTokens = 64;

  struct Layer {
    uint64_t length = 0;
    uint64_t sent = 0;    // to the service; kFasaM
    uint64_t stored = 0;  // there, as far as we know
    uint32_t clock = 0;
  };

  // `id` and `attached` are the service's, for kFasaM.
  static StatusOr<std::unique_ptr<DeviceSequence>> Create(const DeviceShape& shape,
                                                          uint64_t capacity, SequenceId id,
                                                          uint64_t attached);
  ~DeviceSequence();
  DeviceSequence(const DeviceSequence&) = delete;
  DeviceSequence& operator=(const DeviceSequence&) = delete;

  SequenceId id() const { return id_; }
  uint64_t attached_tokens() const { return attached_; }
  uint64_t capacity() const { return capacity_; }
  Layer& layer(uint32_t index) { return layers_[index]; }
  const Layer& layer(uint32_t index) const { return layers_[index]; }

  // Where things are; pointers hold for the sequence's life.
  std::byte* rows(uint32_t layer, uint32_t kv_head) const;
  std::byte* tiles(uint32_t layer, uint32_t kv_head) const;
  kernels::cuda::HotSlots hot(uint32_t layer, uint32_t kv_head) const;
  // The tail's row of a token that is not sent yet.
  std::byte* tail(uint32_t layer, uint32_t kv_head, uint64_t token) const;

  // Sends what the tail holds up to `tokens`, which ends within the newest block.
  Status SendTail(uint32_t layer, uint64_t tokens);
  // Waits until all that was sent is stored.
  Status WaitStored();
  // Sends everything and waits until it is stored; kFasaM.
  Status Flush();
  Status Seal();
  // Forgets tokens >= `tokens`, here and in the service.
  Status Truncate(uint64_t tokens);

  // After a failed step the hot rows cannot be trusted: every later one fails.
  void Poison(const Status& why) { poison_ = why; }
  const Status& poison() const { return poison_; }

  uint64_t slice_bytes() const { return tiles_.bytes(); }
  uint64_t row_memory_bytes() const { return rows_.bytes(); }
  uint64_t hot_row_bytes() const { return hot_rows_.bytes() + hot_tables_.bytes(); }
  uint64_t tail_bytes() const { return tail_.bytes(); }  // pinned host memory
  uint64_t device_bytes() const { return slice_bytes() + row_memory_bytes() + hot_row_bytes(); }

 private:
  DeviceSequence(const DeviceShape& shape, uint64_t capacity, SequenceId id, uint64_t attached);
  Status Allocate();
  size_t head_index(uint32_t layer, uint32_t kv_head) const {
    return size_t{layer} * shape_.model.kv_heads + kv_head;
  }

  const DeviceShape shape_;
  const uint64_t capacity_;
  const SequenceId id_;
  const uint64_t attached_;
  bool sealed_ = false;
  Status poison_;
  std::vector<Layer> layers_;
  kernels::cuda::Memory rows_;        // [layer][kv_head][capacity]
  kernels::cuda::Memory tiles_;       // [layer][kv_head]
  kernels::cuda::Memory hot_rows_;    // [layer][kv_head][slots]
  kernels::cuda::Memory hot_tables_;  // token_of, stamps, slot_of, of all
  kernels::cuda::Memory tail_;        // [layer][kv_head][64]
  std::vector<std::byte> send_scratch_;
};

}  // namespace passband
