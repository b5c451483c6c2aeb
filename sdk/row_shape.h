// RowShape: what a request for rows needs to know of a sequence's model.
//
// Threads  plain values; pure functions.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "sdk/kv_service.h"

namespace passband {

struct RowShape {
  uint32_t layers = 0;
  uint32_t kv_heads = 0;
  uint32_t row_bytes = 0;
};

// kInvalidArgument when `request` cannot be an append to a model of this shape.
Status CheckAppend(const AppendRequest& request, const RowShape& shape);

}  // namespace passband
