#include <algorithm>
#include <array>
#include <cstring>

#include "base/hash.h"
#include "transport/codec.h"
#include "transport/codec_checks.h"

namespace passband::transport {
namespace {

constexpr uint8_t kKnownReplyFlags = kHasChecksum;
constexpr uint16_t kLastCode = static_cast<uint16_t>(StatusCode::kUnauthenticated);

MessageType ReplyTo(MessageType request) {
  switch (request) {
    case MessageType::kHello:
      return MessageType::kHelloAck;
    case MessageType::kFetch:
      return MessageType::kFetchReply;
    case MessageType::kAppend:
      return MessageType::kAppendAck;
    case MessageType::kSlices:
      return MessageType::kSlicesReply;
    case MessageType::kRead:
      return MessageType::kReadReply;
    default:
      break;
  }
  PASSBAND_CHECK(false);
}

size_t ReplyBytes(MessageType type) {
  return type == MessageType::kHelloAck ? sizeof(HelloAckHeader) : sizeof(ReplyHeader);
}

uint64_t ReplyMac(const MacKey& key, std::span<const std::byte> header,
                  std::span<const std::byte> text) {
  std::array<std::byte, sizeof(HelloAckHeader)> copy;
  PASSBAND_CHECK(header.size() >= sizeof(ReplyHeader) && header.size() <= copy.size());
  std::copy(header.begin(), header.end(), copy.begin());
  std::memset(copy.data() + offsetof(ReplyHeader, mac), 0, sizeof(uint64_t));
  return KeyedMac(key, std::span(copy).first(header.size()), text);
}

}  // namespace

ReplyHeader NewReply(const RequestHeader& request) {
  ReplyHeader reply{};
  reply.magic = kWireMagic;
  reply.version = kWireVersion;
  reply.type = ReplyTo(request.type);
  reply.header_bytes = static_cast<uint16_t>(ReplyBytes(reply.type));
  reply.request_id = request.request_id;
  reply.epoch = request.epoch;
  return reply;
}

HelloAckHeader NewHelloAck(const RequestHeader& request) {
  HelloAckHeader ack{};
  ack.reply = NewReply(request);
  return ack;
}

std::string SetError(ReplyHeader& reply, const Status& status) {
  PASSBAND_CHECK(!status.ok());
  std::string text = Message(status).substr(0, kMaxErrorText);
  reply.code = static_cast<uint16_t>(status.code());
  reply.flags = 0;
  reply.rows = 0;
  reply.checksum = 0;
  reply.payload_bytes = text.size();
  reply.retry_after_ms = 0;
  if (const auto after = RetryAfter(status)) {
    reply.retry_after_ms =
        static_cast<uint32_t>(std::clamp<int64_t>(after->count(), 0, UINT32_MAX));
  }
  return text;
}

void Sign(const MacKey& key, ReplyHeader& reply, std::span<const std::byte> text) {
  reply.mac = ReplyMac(key, HeaderBytes(reply), text);
}

void Sign(const MacKey& key, HelloAckHeader& ack, std::span<const std::byte> text) {
  ack.reply.mac = ReplyMac(key, HeaderBytes(ack), text);
}

bool VerifyReplyMac(const MacKey& key, std::span<const std::byte> header,
                    std::span<const std::byte> text) {
  return Copy<ReplyHeader>(header).mac == ReplyMac(key, header, text);
}

StatusOr<ReplyHeader> ParseReply(std::span<const std::byte> header, MessageType expected,
                                 size_t payload_bytes) {
  const size_t bytes = ReplyBytes(expected);
  if (header.size() != bytes) return Disagrees("header size", bytes, header.size());
  const auto reply = Copy<ReplyHeader>(header);
  PASSBAND_RETURN_IF_ERROR(CheckStart(reply.magic, reply.version));
  if (reply.type != expected) {
    return Error(StatusCode::kInvalidArgument, "a {} where a {} belongs", ToString(reply.type),
                 ToString(expected));
  }
  if (reply.header_bytes != bytes) return Bad("header_bytes", reply.header_bytes);
  if ((reply.flags & ~kKnownReplyFlags) != 0) return Bad("flags", reply.flags);
  if (reply.reserved16 != 0 || reply.reserved32 != 0) return Bad("reserved", reply.reserved32);
  if (reply.code > kLastCode) return Bad("code", reply.code);
  if (reply.payload_bytes != payload_bytes) {
    return Disagrees("payload size", reply.payload_bytes, payload_bytes);
  }
  const uint64_t limit = reply.code == 0 ? kMaxReplyBytes : kMaxErrorText;
  if (payload_bytes > limit) return Bad("payload size", payload_bytes);
  if (reply.code != 0 && reply.rows != 0) return Bad("rows of an error", reply.rows);
  return reply;
}

StatusOr<HelloAckHeader> ParseHelloAck(std::span<const std::byte> header, size_t payload_bytes) {
  PASSBAND_ASSIGN_OR_RETURN(const auto reply,
                            ParseReply(header, MessageType::kHelloAck, payload_bytes));
  const auto ack = Copy<HelloAckHeader>(header);
  if (ack.reserved != 0) return Bad("reserved", ack.reserved);
  if (reply.code != 0) return ack;
  if (ack.max_reply_bytes == 0 || ack.max_reply_bytes > kMaxReplyBytes) {
    return Bad("max_reply_bytes", ack.max_reply_bytes);
  }
  if (ack.max_rows == 0 || ack.max_rows > kMaxFetchRows) return Bad("max_rows", ack.max_rows);
  if (ack.max_outstanding == 0) return Bad("max_outstanding", ack.max_outstanding);
  if (ack.block_tokens == 0) return Bad("block_tokens", ack.block_tokens);
  return ack;
}

Status ReplyStatus(const ReplyHeader& reply, std::span<const std::byte> payload) {
  if (reply.code == 0) return OkStatus();
  const std::string text(reinterpret_cast<const char*>(payload.data()), payload.size());
  Status status(static_cast<StatusCode>(reply.code), text);
  if (reply.retry_after_ms == 0) return status;
  return WithRetryAfter(std::move(status), std::chrono::milliseconds(reply.retry_after_ms));
}

}  // namespace passband::transport
