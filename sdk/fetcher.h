// Fetcher: collects what a step misses, over all its sequences and heads, and
// gets it in one request.
//
//   Begin -> (OpenGroup -> Add ...) ... -> Start -> Wait -> Release
//
// Units      rows; row i of the answer is the i-th that was added.
// Threads    one at a time: it keeps its memory from step to step.
// Ownership  the rows live until Release or Begin.
// Errors     what the service says; kInternal when an answer has another size
//            than asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "sdk/kv_service.h"

namespace passband {

class Fetcher {
 public:
  explicit Fetcher(size_t row_bytes) : row_bytes_(row_bytes) {}

  void Begin();
  // What is added next is of this head.
  void OpenGroup(SequenceId sequence, uint32_t layer, uint32_t kv_head);
  void Add(uint32_t token) { tokens_.push_back(token); }
  size_t rows() const { return tokens_.size(); }

  // Sends the request; with nothing to fetch it only leaves the report.
  void Start(KvService& service, const SelectionReport& report);
  // The first row, the others after it; null when there was nothing to fetch.
  StatusOr<const std::byte*> Wait();
  void Release() { pending_.reset(); }

 private:
  size_t row_bytes_;
  std::vector<uint32_t> tokens_;
  std::vector<FetchGroup> groups_;
  std::vector<size_t> group_starts_;  // in tokens_
  std::unique_ptr<PendingRows> pending_;
};

}  // namespace passband
