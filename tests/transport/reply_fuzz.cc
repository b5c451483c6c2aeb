// Goal: no bytes a server could send crash the client's parsers.
#include <algorithm>

#include "tests/transport/parse_all.h"

// The first byte is the header's size; the payload is the rest.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data + 1, size - 1));
  const auto header = bytes.first(std::min<size_t>(data[0], bytes.size()));
  passband::transport::ParseAllReplies(header, bytes.subspan(header.size()));
  return 0;
}
