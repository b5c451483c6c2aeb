// Codec: builds and parses the messages of wire.h.
//
// Parsing sees bytes of strangers: it checks every field that can be checked
// without knowing the store, copies the header out, and never reads outside the
// spans it was given. The order at a server:
//   PeekRequest -> find the session -> VerifyMac -> ParseFetch, ParseAppend, ...
// and at a client: ParseReply (or ParseHelloAck) -> find the request by its id.
//
// Threads    safe; pure, but for FetchBuilder, which is for one thread.
// Ownership  views point into the payload they were parsed from.
// Errors     kInvalidArgument names the field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "transport/wire.h"

namespace passband::transport {

inline constexpr uint16_t AmId(MessageType type) { return static_cast<uint16_t>(type); }
std::string ToString(MessageType type);

// A wire struct as the bytes to send.
template <typename Header>
std::span<const std::byte> HeaderBytes(const Header& header) {
  return std::as_bytes(std::span(&header, 1));
}

// ---- Requests: the client's side

// What every request of a session starts with.
struct RequestContext {
  uint64_t session = 0;
  uint64_t epoch = 0;
  MacKey key{};
};

// Each fills a header of its kind, zeros where the caller fills on; Sign() comes
// last, after every field is set.
HelloHeader NewHello(const RequestContext& context, uint64_t request_id, uint64_t nonce);
AppendHeader NewAppend(const RequestContext& context, uint64_t request_id);
SlicesHeader NewSlices(const RequestContext& context, uint64_t request_id);
ReadHeader NewRead(const RequestContext& context, uint64_t request_id);
RequestHeader NewBye(const RequestContext& context, uint64_t request_id);

// Sets the MAC. `payload`: of HELLO and FETCH; of the others it is not covered.
void Sign(const MacKey& key, HelloHeader& header, std::span<const std::byte> payload);
void Sign(const MacKey& key, FetchHeader& header, std::span<const std::byte> payload);
void Sign(const MacKey& key, AppendHeader& header);
void Sign(const MacKey& key, SlicesHeader& header);
void Sign(const MacKey& key, ReadHeader& header);
void Sign(const MacKey& key, RequestHeader& bye);

// Collects the groups of one FETCH. Its memory is reused from one to the next; the
// payload must stay until the send is done.
class FetchBuilder {
 public:
  // Starts a new one.
  void Reset();
  // Adds tokens.size() rows; nothing when empty.
  void Add(uint64_t sequence, uint16_t layer, uint16_t kv_head, std::span<const uint32_t> tokens);
  uint32_t row_count() const { return static_cast<uint32_t>(tokens_.size()); }
  uint32_t group_count() const { return static_cast<uint32_t>(groups_.size()); }

  // Lays out the payload and returns a header with counts and identity filled in;
  // the caller sets flags, deadline and statistics, then calls Sign(key, header,
  // payload()). Refuses (kInvalidArgument) what the limits of wire.h do not allow.
  StatusOr<FetchHeader> Finish(const RequestContext& context, uint64_t request_id,
                               uint32_t row_bytes);
  std::span<const std::byte> payload() const { return payload_; }

 private:
  std::vector<FetchGroup> groups_;
  std::vector<uint32_t> tokens_;
  std::vector<std::byte> payload_;
};

// ---- Requests: the server's side

// The part common to all, validated: magic, version, known request type, flags
// and exact header size.
StatusOr<RequestHeader> PeekRequest(std::span<const std::byte> header);

// Whether the MAC in `header` (already through PeekRequest) is right.
// `payload` counts for HELLO and FETCH only.
bool VerifyMac(const MacKey& key, std::span<const std::byte> header,
               std::span<const std::byte> payload);

// u32 token indices at any alignment.
class TokenView {
 public:
  TokenView(const std::byte* bytes, size_t count) : bytes_(bytes), count_(count) {}
  size_t size() const { return count_; }
  uint32_t operator[](size_t i) const {
    uint32_t token;
    std::memcpy(&token, bytes_ + i * sizeof(token), sizeof(token));
    return token;
  }
  // out: size() elements.
  void CopyTo(uint32_t* out) const { std::memcpy(out, bytes_, count_ * sizeof(uint32_t)); }

 private:
  const std::byte* bytes_;
  size_t count_;
};

// A FETCH whose counts agree with each other and with the payload's size; every
// group has at least one row. Token values are the store's to check.
struct FetchView {
  FetchHeader header;
  std::span<const std::byte> payload;

  uint32_t group_count() const { return header.group_count; }
  FetchGroup group(uint32_t i) const;
  // The tokens of all groups, in order: group 0's first.
  TokenView tokens() const;
};

struct HelloView {
  HelloHeader header;
  std::span<const std::byte> worker_address;
};

StatusOr<HelloView> ParseHello(std::span<const std::byte> header,
                               std::span<const std::byte> payload);
StatusOr<FetchView> ParseFetch(std::span<const std::byte> header,
                               std::span<const std::byte> payload);
// Also: that payload_bytes is kv_heads * count * row_bytes, and that the tokens
// lie within one block of kMaxAppendTokens.
StatusOr<AppendHeader> ParseAppend(std::span<const std::byte> header, size_t payload_bytes);
StatusOr<SlicesHeader> ParseSlices(std::span<const std::byte> header, size_t payload_bytes);
StatusOr<ReadHeader> ParseRead(std::span<const std::byte> header, size_t payload_bytes);
StatusOr<RequestHeader> ParseBye(std::span<const std::byte> header, size_t payload_bytes);

// ---- Replies: the server's side

// The reply to `request`, of the type that answers it, OK and empty.
ReplyHeader NewReply(const RequestHeader& request);
HelloAckHeader NewHelloAck(const RequestHeader& request);

// Makes `reply` an error: code and retry-after from `status`, no rows, no
// checksum. Returns the payload to send with it (at most kMaxErrorText bytes).
std::string SetError(ReplyHeader& reply, const Status& status);
// Sets the MAC, after every field is set. `text`: of an error; rows are not covered.
void Sign(const MacKey& key, ReplyHeader& reply, std::span<const std::byte> text);
void Sign(const MacKey& key, HelloAckHeader& ack, std::span<const std::byte> text);

// ---- Replies: the client's side

// A reply of type `expected`, consistent in itself and with the payload's size.
StatusOr<ReplyHeader> ParseReply(std::span<const std::byte> header, MessageType expected,
                                 size_t payload_bytes);
StatusOr<HelloAckHeader> ParseHelloAck(std::span<const std::byte> header, size_t payload_bytes);

// Whether the MAC in `header` (already through ParseReply or ParseHelloAck) is right.
bool VerifyReplyMac(const MacKey& key, std::span<const std::byte> header,
                    std::span<const std::byte> text);
// The Status a reply carries, retry-after included. `payload`: the message text.
Status ReplyStatus(const ReplyHeader& reply, std::span<const std::byte> payload);

}  // namespace passband::transport
