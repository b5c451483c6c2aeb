// ForwardPass: one Forward call's activations and the steps between which
// attention happens.
//
//   for each layer: ProjectLayer -> (attend) -> FinishLayer; at the end Head
//
// Positions are worked on in blocks of 128, one job each; a small batch is one
// block whose matrix products are spread over the pool instead.
//
// Threads    one caller; uses the pool.
// Ownership  owns the activations; borrows everything else for its life.
// Errors     none once CheckBatch has passed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "llama/layer_math.h"
#include "llama/model.h"

namespace passband {

// kInvalidArgument for what model.h says of Forward.
Status CheckBatch(const LlamaConfig& config, std::span<const BatchItem> batch);

class ForwardPass {
 public:
  ForwardPass(const LlamaConfig& config, const LlamaWeights& weights,
              std::span<const BatchItem> batch, WorkerPool& pool);

  // Fills the queries and rows of attend_items().
  void ProjectLayer(uint32_t layer);
  // Consumes their out.
  void FinishLayer(uint32_t layer);
  Logits Head();

  std::span<const AttendItem> attend_items() const { return items_; }

 private:
  // Rows [first, first + count) of the activations.
  struct Block {
    size_t first = 0;
    size_t count = 0;
    WorkerPool* pool = nullptr;  // for products; null inside a job
  };

  void ForEachBlock(const std::function<void(const Block&)>& work);
  void ProjectBlock(const LayerWeights& layer, const Block& block);
  void FinishBlock(const LayerWeights& layer, const Block& block);
  // Where the K | V of activation row `row` and kv head `head` goes.
  std::byte* RowOf(size_t row, size_t head);

  const LlamaConfig& config_;
  const LlamaWeights& weights_;
  std::span<const BatchItem> batch_;
  WorkerPool& pool_;
  size_t query_width_;

  size_t positions_ = 0;  // activation rows: all items, one after the other
  std::vector<size_t> item_of_row_;
  std::vector<size_t> first_row_;   // of each item
  std::vector<RopeAngles> angles_;  // of each activation row
  std::vector<float> hidden_;       // [positions][hidden_size]
  std::vector<float> queries_;      // [positions][query_width]
  std::vector<float> attended_;     // [positions][query_width]
  std::vector<std::byte> rows_;     // per item [kv_head][count][K | V]
  std::vector<AttendItem> items_;
};

}  // namespace passband
