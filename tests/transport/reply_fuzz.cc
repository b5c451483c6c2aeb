// Goal: no bytes a server could send crash the client's parsers.
#include <algorithm>
#include <cstring>

#include "tests/transport/parse_all.h"

namespace passband::transport {
namespace {

constexpr MessageType kReplies[] = {MessageType::kHelloAck, MessageType::kFetchReply,
                                    MessageType::kAppendAck, MessageType::kSlicesReply,
                                    MessageType::kReadReply};

// Makes the start that of a reply and the size that of its payload.
void Parse(uint8_t choice, std::span<const std::byte> bytes) {
  const MessageType type = kReplies[choice % std::size(kReplies)];
  std::byte storage[sizeof(HelloAckHeader)] = {};
  const auto header = std::span(storage).first(
      type == MessageType::kHelloAck ? sizeof(HelloAckHeader) : sizeof(ReplyHeader));
  const size_t taken = std::min(bytes.size() / 2, header.size());
  std::copy_n(bytes.begin(), taken, header.begin());
  const auto payload = bytes.subspan(taken);
  ReplyHeader start;
  std::memcpy(&start, header.data(), sizeof(start));
  start.magic = kWireMagic;
  start.version = kWireVersion;
  start.type = type;
  start.flags &= kHasChecksum;
  start.header_bytes = static_cast<uint16_t>(header.size());
  start.payload_bytes = payload.size();
  start.code %= 20;
  start.reserved16 = 0;
  start.reserved32 = 0;
  std::memcpy(header.data(), &start, sizeof(start));
  ParseAllReplies(header, payload);
}

}  // namespace
}  // namespace passband::transport

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data + 1, size - 1));
  passband::transport::ParseAllReplies(bytes.first(bytes.size() / 2),
                                       bytes.subspan(bytes.size() / 2));
  passband::transport::Parse(data[0], bytes);
  return 0;
}
