// DataLimits: what one data-plane request, and one connection, may ask for. Told to clients in
// Connect and in HELLO_ACK.
//
// Threads  plain values.
#pragma once

#include <cstdint>

#include "transport/wire.h"

namespace passband::server {

struct DataLimits {
  uint64_t max_reply_bytes = uint64_t{16} << 20;
  uint32_t max_rows = transport::kMaxFetchRows;  // of one FETCH
  uint32_t max_range_rows = 1u << 21;            // tokens * kv heads of one SLICES or READ
  uint32_t max_outstanding = 32;
};

}  // namespace passband::server
