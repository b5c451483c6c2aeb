// Wire: the data plane's messages, byte for byte.
//
// A message is an active message: its id is the MessageType, its header one of
// the structs below, its payload as said there. Integers are little-endian,
// reserved fields zero, structs without holes. codec.h builds and parses them.
//
//   client                          server
//   HELLO (worker address)   ->
//                            <-     HELLO_ACK (limits)
//   FETCH (groups, tokens)   ->
//                            <-     FETCH_REPLY (rows, in the order asked)
//   APPEND (rows)            ->
//                            <-     APPEND_ACK
//   SLICES                   ->
//                            <-     SLICES_REPLY (encoded slices)
//   READ                     ->
//                            <-     READ_REPLY (rows of a contiguous range)
//   BYE                      ->
//
// Identity  every request carries the session, its epoch and a MAC keyed with the
//           session's secret over the whole header (mac as zero), and over the
//           payload of HELLO and FETCH. An APPEND's payload is covered by the
//           checksum in its header. Every reply carries a MAC over its header, and over
//           the text of an error; rows are covered by the checksum, where one was asked
//           for.
// Contract  both sides refuse another magic or version; a change of layout is a new
//           version.
// Errors    a reply whose code is not OK has no rows; its payload is the message
//           text.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace passband::transport {

static_assert(std::endian::native == std::endian::little, "wire structs are copied as they are");

inline constexpr uint16_t kWireMagic = 0x4250;  // "PB"
inline constexpr uint16_t kWireVersion = 2;

inline constexpr uint32_t kMaxFetchRows = 1u << 20;
inline constexpr uint32_t kMaxFetchGroups = 1u << 16;
inline constexpr uint32_t kMaxRowBytes = 16 * 1024;
inline constexpr uint32_t kMaxSliceBytes = 4096;
inline constexpr uint32_t kMaxAppendTokens = 64;       // One block.
inline constexpr uint32_t kMaxRangeTokens = 1u << 20;  // SLICES and READ.
inline constexpr uint16_t kMaxKvHeads = 1024;
inline constexpr uint64_t kMaxReplyBytes = uint64_t{1} << 30;
inline constexpr uint64_t kMaxToken = uint64_t{1} << 40;
inline constexpr uint32_t kMaxErrorText = 512;
inline constexpr uint32_t kMaxWorkerAddress = 8192;

enum class MessageType : uint8_t {
  kHello = 1,
  kHelloAck = 2,
  kFetch = 3,
  kFetchReply = 4,
  kAppend = 5,
  kAppendAck = 6,
  kSlices = 7,
  kSlicesReply = 8,
  kRead = 9,
  kReadReply = 10,
  kBye = 11,
};

// Request flags.
inline constexpr uint8_t kWantChecksum = 1;  // FETCH, SLICES, READ: checksum the reply.
// Reply flags.
inline constexpr uint8_t kHasChecksum = 1;

// Starts every request. BYE is this alone.
struct RequestHeader {
  uint16_t magic;
  uint16_t version;
  MessageType type;
  uint8_t flags;
  uint16_t header_bytes;  // Of the whole header, this included.
  uint64_t session;
  uint64_t epoch;
  uint64_t request_id;   // The client's; comes back in the reply.
  uint32_t deadline_us;  // Time left when it was sent; zero: none.
  uint32_t reserved;
  uint64_t mac;
};

// Payload: the client's worker address.
struct HelloHeader {
  RequestHeader request;
  uint64_t nonce;
};

// Payload: FetchGroup[group_count], then the u32 token indices of all groups in
// order. Reply: row_count rows of row_bytes, in that order.
struct FetchHeader {
  RequestHeader request;
  uint32_t group_count;
  uint32_t row_count;
  uint32_t row_bytes;  // What the client expects; another value is refused.
  uint32_t reserved;
  // What the worker did since its last FETCH.
  uint64_t selected_rows;
  uint64_t hot_rows;              // Of those, already at the worker.
  uint64_t full_attention_bytes;  // What attention over every token would have read.
};

struct FetchGroup {
  uint64_t sequence;
  uint16_t layer;
  uint16_t kv_head;
  uint32_t count;
};

// Payload: rows [kv_head][count][row_bytes], all within one block.
struct AppendHeader {
  RequestHeader request;
  uint64_t sequence;
  uint64_t first_token;
  uint32_t count;  // 1..kMaxAppendTokens
  uint32_t row_bytes;
  uint16_t layer;
  uint16_t kv_heads;
  uint32_t reserved;
  uint64_t checksum;  // XXH3-64 of the payload.
};

// No payload. Reply: [kv_head][count][slice_bytes].
struct SlicesHeader {
  RequestHeader request;
  uint64_t sequence;
  uint64_t profile;  // The id the server gave it.
  uint64_t first_token;
  uint32_t count;
  uint16_t layer;
  uint16_t reserved;
};

// No payload. Reply: [kv_head][count][row_bytes].
struct ReadHeader {
  RequestHeader request;
  uint64_t sequence;
  uint64_t first_token;
  uint32_t count;
  uint16_t layer;
  uint16_t reserved;
};

// Every reply. APPEND_ACK is this alone.
struct ReplyHeader {
  uint16_t magic;
  uint16_t version;
  MessageType type;
  uint8_t flags;
  uint16_t header_bytes;
  uint64_t request_id;
  uint64_t epoch;
  uint64_t payload_bytes;
  uint64_t rows;      // In the payload; APPEND_ACK: rows made visible.
  uint64_t checksum;  // XXH3-64 of the payload, with kHasChecksum.
  uint32_t retry_after_ms;
  uint32_t service_us;  // From the request's arrival to this reply.
  uint16_t code;        // absl::StatusCode
  uint16_t reserved16;
  uint32_t reserved32;
  uint64_t mac;
};

struct HelloAckHeader {
  ReplyHeader reply;
  uint64_t max_reply_bytes;
  uint32_t max_rows;         // In one FETCH.
  uint32_t max_outstanding;  // Requests without a reply; more are refused.
  uint32_t block_tokens;
  uint32_t reserved;
};

static_assert(sizeof(RequestHeader) == 48 && offsetof(RequestHeader, session) == 8 &&
              offsetof(RequestHeader, deadline_us) == 32 && offsetof(RequestHeader, mac) == 40);
static_assert(sizeof(HelloHeader) == 56 && offsetof(HelloHeader, nonce) == 48);
static_assert(sizeof(FetchHeader) == 88 && offsetof(FetchHeader, group_count) == 48 &&
              offsetof(FetchHeader, selected_rows) == 64);
static_assert(sizeof(FetchGroup) == 16 && offsetof(FetchGroup, count) == 12);
static_assert(sizeof(AppendHeader) == 88 && offsetof(AppendHeader, layer) == 72 &&
              offsetof(AppendHeader, checksum) == 80);
static_assert(sizeof(SlicesHeader) == 80 && offsetof(SlicesHeader, layer) == 76);
static_assert(sizeof(ReadHeader) == 72 && offsetof(ReadHeader, layer) == 68);
static_assert(sizeof(ReplyHeader) == 72 && offsetof(ReplyHeader, code) == 56 &&
              offsetof(ReplyHeader, mac) == 64);
static_assert(sizeof(HelloAckHeader) == 96 && offsetof(HelloAckHeader, max_reply_bytes) == 72);
static_assert(std::has_unique_object_representations_v<FetchHeader> &&
              std::has_unique_object_representations_v<AppendHeader> &&
              std::has_unique_object_representations_v<SlicesHeader> &&
              std::has_unique_object_representations_v<ReadHeader> &&
              std::has_unique_object_representations_v<HelloHeader> &&
              std::has_unique_object_representations_v<HelloAckHeader>);

}  // namespace passband::transport
