// What parsing requests and parsing replies share. For codec.cc and reply_codec.cc
// only.
//
// Threads  safe; pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/status.h"
#include "transport/wire.h"

namespace passband::transport {

inline Status Bad(const char* field, uint64_t value) {
  return Error(StatusCode::kInvalidArgument, "{} is {}", field, value);
}

inline Status Disagrees(const char* what, uint64_t expected, uint64_t found) {
  return Error(StatusCode::kInvalidArgument, "{} should be {} by the header, is {}", what, expected,
               found);
}

template <typename Header>
Header Copy(std::span<const std::byte> bytes) {
  Header header;
  PASSBAND_CHECK(bytes.size() >= sizeof(header));
  std::memcpy(&header, bytes.data(), sizeof(header));
  return header;
}

inline Status CheckStart(uint16_t magic, uint16_t version) {
  if (magic != kWireMagic) return Bad("magic", magic);
  if (version != kWireVersion) {
    return Error(StatusCode::kInvalidArgument, "protocol version {} is not spoken here, {} is",
                 version, kWireVersion);
  }
  return OkStatus();
}

}  // namespace passband::transport
