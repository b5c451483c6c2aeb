#include "services/cli/capture_attention.h"

#include <algorithm>
#include <utility>

#include "kernels/dtype.h"

namespace passband {

CaptureAttention::CaptureAttention(const LlamaConfig& config, WorkerPool& pool,
                                   std::vector<uint32_t> positions)
    : config_(config), positions_(std::move(positions)), attention_(config, pool) {}

Status CaptureAttention::Attend(const AttendArgs& args) {
  if (args.items.size() != 1 || args.items[0].first_position != 0) {
    return Error(StatusCode::kInvalidArgument, "capture takes one whole document at a time");
  }
  layers_.push_back(CaptureLayer(args.items[0]));
  PASSBAND_RETURN_IF_ERROR(attention_.Attend(args));
  // The next layer needs none of this layer's rows.
  if (args.layer + 1 == config_.layers) attention_.Drop(args.items[0].handle);
  return OkStatus();
}

LayerCapture CaptureAttention::CaptureLayer(const AttendItem& item) const {
  const kernels::HeadShape shape = config_.head_shape();
  LayerCapture capture;
  capture.tokens = item.count;
  capture.positions = positions_;
  capture.keys.resize(size_t{config_.kv_heads} * item.count * shape.head_dim);
  const size_t rows = size_t{config_.kv_heads} * item.count;
  for (size_t row = 0; row < rows; ++row) {
    kernels::DTypeToFloat(item.rows + row * shape.row_bytes(), shape.head_dim, shape.dtype,
                          capture.keys.data() + row * shape.head_dim);
  }
  const size_t query_size = size_t{config_.q_heads} * shape.head_dim;
  for (const uint32_t position : positions_) {
    const float* query = item.queries + position * query_size;
    capture.queries.insert(capture.queries.end(), query, query + query_size);
  }
  return capture;
}

}  // namespace passband
