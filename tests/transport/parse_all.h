// Runs untrusted bytes through every parser of the codec and uses what comes out.
// Shared by the property tests and the fuzzers.
#pragma once

#include <cstddef>
#include <span>

#include "base/status.h"
#include "transport/codec.h"

namespace passband::transport {

// How many kinds of request these bytes are: none or one.
inline int ParseAllRequests(std::span<const std::byte> header, std::span<const std::byte> payload) {
  const auto peek = PeekRequest(header);
  if (!peek.ok()) return 0;
  VerifyMac(MacKey{}, header, payload);
  int kinds = 0;
  kinds += ParseHello(header, payload).ok();
  kinds += ParseAppend(header, payload.size()).ok();
  kinds += ParseSlices(header, payload.size()).ok();
  kinds += ParseRead(header, payload.size()).ok();
  kinds += ParseBye(header, payload.size()).ok();
  const auto fetch = ParseFetch(header, payload);
  if (!fetch.ok()) return kinds;
  uint64_t rows = 0;
  for (uint32_t i = 0; i < fetch->group_count(); ++i) rows += fetch->group(i).count;
  PASSBAND_CHECK(rows == fetch->tokens().size());
  uint64_t sum = 0;
  for (size_t i = 0; i < fetch->tokens().size(); ++i) sum += fetch->tokens()[i];
  PASSBAND_CHECK(sum <= rows * UINT32_MAX);
  return kinds + 1;
}

inline int ParseAllReplies(std::span<const std::byte> header, std::span<const std::byte> payload) {
  int kinds = 0;
  for (const MessageType type : {MessageType::kFetchReply, MessageType::kAppendAck,
                                 MessageType::kSlicesReply, MessageType::kReadReply}) {
    const auto reply = ParseReply(header, type, payload.size());
    if (!reply.ok()) continue;
    ++kinds;
    PASSBAND_CHECK(reply->payload_bytes == payload.size());
    PASSBAND_CHECK(ReplyStatus(*reply, payload).ok() == (reply->code == 0));
  }
  return kinds + (ParseHelloAck(header, payload.size()).ok() ? 1 : 0);
}

}  // namespace passband::transport
