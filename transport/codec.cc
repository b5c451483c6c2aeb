#include "transport/codec.h"

#include <algorithm>
#include <array>

#include "transport/codec_checks.h"

namespace passband::transport {
namespace {

constexpr uint8_t kKnownRequestFlags = kWantChecksum;

// Zero: not a request.
size_t RequestBytes(MessageType type) {
  switch (type) {
    case MessageType::kHello:
      return sizeof(HelloHeader);
    case MessageType::kFetch:
      return sizeof(FetchHeader);
    case MessageType::kAppend:
      return sizeof(AppendHeader);
    case MessageType::kSlices:
      return sizeof(SlicesHeader);
    case MessageType::kRead:
      return sizeof(ReadHeader);
    case MessageType::kBye:
      return sizeof(RequestHeader);
    default:
      return 0;
  }
}

template <typename Header>
StatusOr<Header> ParseRequest(std::span<const std::byte> bytes, MessageType type) {
  PASSBAND_ASSIGN_OR_RETURN(const RequestHeader request, PeekRequest(bytes));
  if (request.type != type) {
    return Error(StatusCode::kInvalidArgument, "a {} where a {} belongs", ToString(request.type),
                 ToString(type));
  }
  return Copy<Header>(bytes);
}

Status CheckRange(uint64_t first_token, uint32_t count, uint32_t limit) {
  if (count == 0 || count > limit) return Bad("count", count);
  if (first_token > kMaxToken) return Bad("first_token", first_token);
  return OkStatus();
}

Status CheckNoPayload(size_t payload_bytes) {
  return payload_bytes == 0 ? OkStatus() : Bad("payload size", payload_bytes);
}

Status CheckFetchCounts(const FetchHeader& header) {
  if (header.reserved != 0) return Bad("reserved", header.reserved);
  if (header.group_count == 0 || header.group_count > kMaxFetchGroups) {
    return Bad("group_count", header.group_count);
  }
  if (header.row_count == 0 || header.row_count > kMaxFetchRows) {
    return Bad("row_count", header.row_count);
  }
  if (header.row_bytes == 0 || header.row_bytes > kMaxRowBytes) {
    return Bad("row_bytes", header.row_bytes);
  }
  if (uint64_t{header.row_count} * header.row_bytes > kMaxReplyBytes) {
    return Bad("reply size", uint64_t{header.row_count} * header.row_bytes);
  }
  return OkStatus();
}

uint64_t FetchPayloadBytes(uint32_t groups, uint32_t rows) {
  return uint64_t{groups} * sizeof(FetchGroup) + uint64_t{rows} * sizeof(uint32_t);
}

template <typename Header>
Header NewRequest(const RequestContext& context, uint64_t request_id, MessageType type) {
  Header header{};
  RequestHeader request{};
  request.magic = kWireMagic;
  request.version = kWireVersion;
  request.type = type;
  request.header_bytes = sizeof(Header);
  request.session = context.session;
  request.epoch = context.epoch;
  request.request_id = request_id;
  std::memcpy(&header, &request, sizeof(request));
  return header;
}

uint64_t Mac(const MacKey& key, std::span<const std::byte> header,
             std::span<const std::byte> payload) {
  constexpr size_t kLargest = std::max(sizeof(FetchHeader), sizeof(AppendHeader));
  std::array<std::byte, kLargest> copy;
  PASSBAND_CHECK(header.size() >= sizeof(RequestHeader) && header.size() <= copy.size());
  std::copy(header.begin(), header.end(), copy.begin());
  std::memset(copy.data() + offsetof(RequestHeader, mac), 0, sizeof(uint64_t));
  return KeyedMac(key, std::span(copy).first(header.size()), payload);
}

bool MacCoversPayload(MessageType type) {
  return type == MessageType::kHello || type == MessageType::kFetch;
}

}  // namespace

std::string ToString(MessageType type) {
  switch (type) {
    case MessageType::kHello:
      return "HELLO";
    case MessageType::kHelloAck:
      return "HELLO_ACK";
    case MessageType::kFetch:
      return "FETCH";
    case MessageType::kFetchReply:
      return "FETCH_REPLY";
    case MessageType::kAppend:
      return "APPEND";
    case MessageType::kAppendAck:
      return "APPEND_ACK";
    case MessageType::kSlices:
      return "SLICES";
    case MessageType::kSlicesReply:
      return "SLICES_REPLY";
    case MessageType::kRead:
      return "READ";
    case MessageType::kReadReply:
      return "READ_REPLY";
    case MessageType::kBye:
      return "BYE";
  }
  return fmt::format("message {}", static_cast<unsigned>(type));
}

HelloHeader NewHello(const RequestContext& context, uint64_t request_id, uint64_t nonce) {
  auto header = NewRequest<HelloHeader>(context, request_id, MessageType::kHello);
  header.nonce = nonce;
  return header;
}

AppendHeader NewAppend(const RequestContext& context, uint64_t request_id) {
  return NewRequest<AppendHeader>(context, request_id, MessageType::kAppend);
}

SlicesHeader NewSlices(const RequestContext& context, uint64_t request_id) {
  return NewRequest<SlicesHeader>(context, request_id, MessageType::kSlices);
}

ReadHeader NewRead(const RequestContext& context, uint64_t request_id) {
  return NewRequest<ReadHeader>(context, request_id, MessageType::kRead);
}

RequestHeader NewBye(const RequestContext& context, uint64_t request_id) {
  return NewRequest<RequestHeader>(context, request_id, MessageType::kBye);
}

void Sign(const MacKey& key, HelloHeader& header, std::span<const std::byte> payload) {
  header.request.mac = Mac(key, HeaderBytes(header), payload);
}

void Sign(const MacKey& key, FetchHeader& header, std::span<const std::byte> payload) {
  header.request.mac = Mac(key, HeaderBytes(header), payload);
}

void Sign(const MacKey& key, AppendHeader& header) {
  header.request.mac = Mac(key, HeaderBytes(header), {});
}

void Sign(const MacKey& key, SlicesHeader& header) {
  header.request.mac = Mac(key, HeaderBytes(header), {});
}

void Sign(const MacKey& key, ReadHeader& header) {
  header.request.mac = Mac(key, HeaderBytes(header), {});
}

void Sign(const MacKey& key, RequestHeader& bye) { bye.mac = Mac(key, HeaderBytes(bye), {}); }

void FetchBuilder::Reset() {
  groups_.clear();
  tokens_.clear();
  payload_.clear();
}

void FetchBuilder::Add(uint64_t sequence, uint16_t layer, uint16_t kv_head,
                       std::span<const uint32_t> tokens) {
  if (tokens.empty()) return;
  groups_.push_back({sequence, layer, kv_head, static_cast<uint32_t>(tokens.size())});
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

StatusOr<FetchHeader> FetchBuilder::Finish(const RequestContext& context, uint64_t request_id,
                                           uint32_t row_bytes) {
  auto header = NewRequest<FetchHeader>(context, request_id, MessageType::kFetch);
  // Beyond 2^32 the counts would wrap; clamped they are refused all the same.
  constexpr size_t kTooMany = UINT32_MAX;
  header.group_count = static_cast<uint32_t>(std::min(groups_.size(), kTooMany));
  header.row_count = static_cast<uint32_t>(std::min(tokens_.size(), kTooMany));
  header.row_bytes = row_bytes;
  PASSBAND_RETURN_IF_ERROR(CheckFetchCounts(header));
  payload_.resize(FetchPayloadBytes(header.group_count, header.row_count));
  const size_t groups_bytes = groups_.size() * sizeof(FetchGroup);
  std::memcpy(payload_.data(), groups_.data(), groups_bytes);
  std::memcpy(payload_.data() + groups_bytes, tokens_.data(), tokens_.size() * sizeof(uint32_t));
  return header;
}

StatusOr<RequestHeader> PeekRequest(std::span<const std::byte> header) {
  if (header.size() < sizeof(RequestHeader)) return Bad("header size", header.size());
  const auto request = Copy<RequestHeader>(header);
  PASSBAND_RETURN_IF_ERROR(CheckStart(request.magic, request.version));
  const size_t bytes = RequestBytes(request.type);
  if (bytes == 0) return Bad("request type", static_cast<uint64_t>(request.type));
  if (header.size() != bytes) return Disagrees("header size", bytes, header.size());
  if (request.header_bytes != bytes) return Bad("header_bytes", request.header_bytes);
  if ((request.flags & ~kKnownRequestFlags) != 0) return Bad("flags", request.flags);
  if (request.reserved != 0) return Bad("reserved", request.reserved);
  return request;
}

bool VerifyMac(const MacKey& key, std::span<const std::byte> header,
               std::span<const std::byte> payload) {
  const auto request = Copy<RequestHeader>(header);
  return request.mac ==
         Mac(key, header, MacCoversPayload(request.type) ? payload : std::span<const std::byte>());
}

FetchGroup FetchView::group(uint32_t i) const {
  return Copy<FetchGroup>(payload.subspan(i * sizeof(FetchGroup), sizeof(FetchGroup)));
}

TokenView FetchView::tokens() const {
  return {payload.data() + size_t{header.group_count} * sizeof(FetchGroup), header.row_count};
}

StatusOr<HelloView> ParseHello(std::span<const std::byte> header,
                               std::span<const std::byte> payload) {
  PASSBAND_ASSIGN_OR_RETURN(const auto hello,
                            ParseRequest<HelloHeader>(header, MessageType::kHello));
  if (payload.empty() || payload.size() > kMaxWorkerAddress) {
    return Bad("worker address size", payload.size());
  }
  return HelloView{hello, payload};
}

StatusOr<FetchView> ParseFetch(std::span<const std::byte> header,
                               std::span<const std::byte> payload) {
  PASSBAND_ASSIGN_OR_RETURN(const auto fetch,
                            ParseRequest<FetchHeader>(header, MessageType::kFetch));
  PASSBAND_RETURN_IF_ERROR(CheckFetchCounts(fetch));
  const uint64_t expected = FetchPayloadBytes(fetch.group_count, fetch.row_count);
  if (payload.size() != expected) return Disagrees("payload size", expected, payload.size());
  const FetchView view{fetch, payload};
  uint64_t rows = 0;
  for (uint32_t i = 0; i < fetch.group_count; ++i) {
    const uint32_t count = view.group(i).count;
    if (count == 0) return Error(StatusCode::kInvalidArgument, "group {} has no rows", i);
    rows += count;
  }
  if (rows != fetch.row_count) return Disagrees("rows in all groups", fetch.row_count, rows);
  return view;
}

StatusOr<AppendHeader> ParseAppend(std::span<const std::byte> header, size_t payload_bytes) {
  PASSBAND_ASSIGN_OR_RETURN(const auto append,
                            ParseRequest<AppendHeader>(header, MessageType::kAppend));
  PASSBAND_RETURN_IF_ERROR(CheckRange(append.first_token, append.count, kMaxAppendTokens));
  if (append.reserved != 0) return Bad("reserved", append.reserved);
  if (append.row_bytes == 0 || append.row_bytes > kMaxRowBytes) {
    return Bad("row_bytes", append.row_bytes);
  }
  if (append.kv_heads == 0 || append.kv_heads > kMaxKvHeads) {
    return Bad("kv_heads", append.kv_heads);
  }
  if (append.first_token % kMaxAppendTokens + append.count > kMaxAppendTokens) {
    return Error(StatusCode::kInvalidArgument, "tokens {}..{} are in two blocks",
                 append.first_token, append.first_token + append.count - 1);
  }
  const uint64_t expected = uint64_t{append.kv_heads} * append.count * append.row_bytes;
  if (payload_bytes != expected) return Disagrees("payload size", expected, payload_bytes);
  return append;
}

StatusOr<SlicesHeader> ParseSlices(std::span<const std::byte> header, size_t payload_bytes) {
  PASSBAND_ASSIGN_OR_RETURN(const auto slices,
                            ParseRequest<SlicesHeader>(header, MessageType::kSlices));
  PASSBAND_RETURN_IF_ERROR(CheckRange(slices.first_token, slices.count, kMaxRangeTokens));
  if (slices.reserved != 0) return Bad("reserved", slices.reserved);
  PASSBAND_RETURN_IF_ERROR(CheckNoPayload(payload_bytes));
  return slices;
}

StatusOr<ReadHeader> ParseRead(std::span<const std::byte> header, size_t payload_bytes) {
  PASSBAND_ASSIGN_OR_RETURN(const auto read, ParseRequest<ReadHeader>(header, MessageType::kRead));
  PASSBAND_RETURN_IF_ERROR(CheckRange(read.first_token, read.count, kMaxRangeTokens));
  if (read.reserved != 0) return Bad("reserved", read.reserved);
  PASSBAND_RETURN_IF_ERROR(CheckNoPayload(payload_bytes));
  return read;
}

StatusOr<RequestHeader> ParseBye(std::span<const std::byte> header, size_t payload_bytes) {
  PASSBAND_ASSIGN_OR_RETURN(const auto bye, ParseRequest<RequestHeader>(header, MessageType::kBye));
  PASSBAND_RETURN_IF_ERROR(CheckNoPayload(payload_bytes));
  return bye;
}

}  // namespace passband::transport
