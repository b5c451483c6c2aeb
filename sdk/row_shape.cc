#include "sdk/row_shape.h"

namespace passband {
namespace {

constexpr uint64_t kBlockTokens = 64;

}  // namespace

Status CheckAppend(const AppendRequest& request, const RowShape& shape) {
  if (request.layer >= shape.layers) {
    return Error(StatusCode::kInvalidArgument, "append to layer {} of a model of {} layers",
                 request.layer, shape.layers);
  }
  if (request.count == 0 || request.first_token / kBlockTokens !=
                                (request.first_token + request.count - 1) / kBlockTokens) {
    return Error(StatusCode::kInvalidArgument,
                 "append of {} tokens at {}: give 1 to {} within one block of {}", request.count,
                 request.first_token, kBlockTokens, kBlockTokens);
  }
  const uint64_t bytes = uint64_t{request.count} * shape.kv_heads * shape.row_bytes;
  if (request.rows.size() == bytes) return OkStatus();
  return Error(StatusCode::kInvalidArgument,
               "append of {} bytes where {} tokens of {} kv heads, {} bytes a row, take {}",
               request.rows.size(), request.count, shape.kv_heads, shape.row_bytes, bytes);
}

}  // namespace passband
