// Goal: no bytes a client could send crash the server's parsers.
#include <algorithm>
#include <cstring>

#include "tests/transport/parse_all.h"

namespace passband::transport {
namespace {

constexpr uint8_t kMendStart = 0x80;   // Make the first 16 bytes those of a request.
constexpr uint8_t kMendCounts = 0x40;  // Make the numbers of a FETCH fit its payload.

constexpr struct {
  MessageType type;
  uint16_t bytes;
} kRequests[] = {
    {MessageType::kHello, sizeof(HelloHeader)},   {MessageType::kFetch, sizeof(FetchHeader)},
    {MessageType::kAppend, sizeof(AppendHeader)}, {MessageType::kSlices, sizeof(SlicesHeader)},
    {MessageType::kRead, sizeof(ReadHeader)},     {MessageType::kBye, sizeof(RequestHeader)},
};

void MendCounts(std::span<std::byte> header, std::span<const std::byte> payload) {
  FetchHeader fetch;
  std::memcpy(&fetch, header.data(), sizeof(fetch));
  const auto bytes = static_cast<uint32_t>(payload.size());
  constexpr uint32_t kSmallest = sizeof(FetchGroup) + sizeof(uint32_t);
  fetch.group_count = 1 + fetch.group_count % std::max(1u, bytes / kSmallest);
  fetch.row_count = (bytes - fetch.group_count * uint32_t{sizeof(FetchGroup)}) / 4;
  fetch.row_bytes = 1 + fetch.row_bytes % kMaxRowBytes;
  fetch.reserved = 0;
  std::memcpy(header.data(), &fetch, sizeof(fetch));
}

// The first byte says which request this is to look like, and how much is mended so
// that it gets past the first checks.
void Parse(uint8_t choice, std::span<const std::byte> bytes) {
  const auto& request = kRequests[choice % std::size(kRequests)];
  std::byte storage[128] = {};
  const auto header = std::span(storage).first(request.bytes);
  const size_t taken = std::min(bytes.size() / 2, header.size());
  std::copy_n(bytes.begin(), taken, header.begin());
  const auto payload = bytes.subspan(taken);
  if ((choice & kMendStart) != 0) {
    RequestHeader start;
    std::memcpy(&start, header.data(), sizeof(start));
    start.magic = kWireMagic;
    start.version = kWireVersion;
    start.type = request.type;
    start.flags &= kWantChecksum;
    start.header_bytes = request.bytes;
    start.reserved = 0;
    std::memcpy(header.data(), &start, sizeof(start));
    if (request.type == MessageType::kFetch && (choice & kMendCounts) != 0) {
      MendCounts(header, payload);
    }
  }
  ParseAllRequests(header, payload);
}

}  // namespace
}  // namespace passband::transport

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data + 1, size - 1));
  // Raw, at any header size, as well as mended.
  passband::transport::ParseAllRequests(bytes.first(bytes.size() / 2),
                                        bytes.subspan(bytes.size() / 2));
  passband::transport::Parse(data[0], bytes);
  return 0;
}
