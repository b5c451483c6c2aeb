// Synthetic rows: keys and values that follow from where they stand, so that every byte of an
// answer can be checked without anybody keeping a copy; and a model and a profile for them.
//
// Units    bytes, tokens.
// Threads  pure functions.
// Errors   kDataLoss: the first wrong byte, by its place; kInternal: an answer of another size
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "profile/profile.h"
#include "sdk/kv_service.h"

namespace passband {

// The same shape always has the same fingerprint, so servers do not gather models.
ModelInfo SyntheticModel(uint32_t layers, uint32_t kv_heads, const kernels::HeadShape& head);
// Of the model; 24 chunks of every head at 2 bits, or as many as there are.
StatusOr<std::shared_ptr<const Profile>> SyntheticProfile(const ModelInfo& model);

// The rows of one sequence; another `salt`, other rows.
class SyntheticRows {
 public:
  SyntheticRows(const ModelInfo& model, uint64_t salt);

  // [kv_head][count][row_bytes]: of every kv head, as Append and READ have them.
  void Fill(uint32_t layer, uint64_t first, uint64_t count, std::vector<std::byte>& out) const;
  Status CheckRange(uint32_t layer, uint64_t first, uint64_t count,
                    std::span<const std::byte> rows) const;
  // Of one head, in the order of `tokens`.
  Status CheckRows(uint32_t layer, uint32_t kv_head, std::span<const uint32_t> tokens,
                   std::span<const std::byte> rows) const;
  // [kv_head][count][slice_bytes]
  Status CheckSlices(const Profile& profile, uint32_t layer, uint64_t count,
                     std::span<const std::byte> slices) const;

 private:
  void FillRow(uint32_t layer, uint32_t kv_head, uint64_t token, std::byte* out) const;
  Status CheckRow(uint32_t layer, uint32_t kv_head, uint64_t token, const std::byte* row) const;

  const uint32_t kv_heads_;
  const size_t row_bytes_;
  const uint64_t salt_;
};

}  // namespace passband
