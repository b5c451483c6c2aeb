// WorkerSequence: what a worker holds of one sequence: slices of every key,
// hot rows, the newest tokens. The full keys and values are in the service.
//
// Units      tokens, bytes.
// Threads    one at a time.
// Ownership  closes its sequence in the service when destroyed, unless
//            Detach()ed.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "kernels/tip.h"

namespace passband {

class WorkerSequence {
 public:
  ~WorkerSequence();
  WorkerSequence(const WorkerSequence&) = delete;
  WorkerSequence& operator=(const WorkerSequence&) = delete;

  SequenceId id() const;
  // Tokens of a cached prefix that were found in the service at opening.
  uint64_t attached_tokens() const;
  // Tokens that the layer holds so far.
  uint64_t length(uint32_t layer) const;
  // The slices of one head; null without a profile.
  const kernels::SliceIndex* slices(uint32_t layer, uint32_t kv_head) const;

  uint64_t slice_bytes() const;    // memory of the slice indexes
  uint64_t hot_row_bytes() const;  // memory of the row caches
  uint64_t tail_bytes() const;

  // Forgets tokens >= `tokens`, here and in the service.
  Status Truncate(uint64_t tokens);
  // Names appended tokens, so that others find them by prefix.
  Status ExtendTokenIds(uint64_t first, const std::vector<uint32_t>& token_ids);
  // No more appends; the sequence stays in the service after this object.
  Status Seal();
  // Leaves the sequence in the service when this object goes.
  void Detach();

 private:
  friend class Engine;
  struct Impl;
  explicit WorkerSequence(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace passband
