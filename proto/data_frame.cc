#include "proto/data_frame.h"

#include <climits>
#include <cstdint>
#include <cstring>
#include <vector>

namespace passband {
namespace {

using google::protobuf::io::CodedOutputStream;

// (field number << 3) | length-delimited.
constexpr uint32_t kHeaderTag = (1 << 3) | 2;
constexpr uint32_t kPayloadTag = (2 << 3) | 2;
constexpr size_t kMaxFraming = 2 * (1 + 5);

}  // namespace

grpc::ByteBuffer Frame(std::span<const std::byte> header, const grpc::Slice& payload) {
  std::array<uint8_t, FrameReader::kMaxHeader + kMaxFraming> bytes{};
  uint8_t* at = CodedOutputStream::WriteTagToArray(kHeaderTag, bytes.data());
  at = CodedOutputStream::WriteVarint32ToArray(static_cast<uint32_t>(header.size()), at);
  at = CodedOutputStream::WriteRawToArray(header.data(), static_cast<int>(header.size()), at);
  if (payload.size() == 0) {
    const grpc::Slice whole(bytes.data(), static_cast<size_t>(at - bytes.data()));
    return {&whole, 1};
  }
  at = CodedOutputStream::WriteTagToArray(kPayloadTag, at);
  at = CodedOutputStream::WriteVarint32ToArray(static_cast<uint32_t>(payload.size()), at);
  const std::array<grpc::Slice, 2> parts{
      grpc::Slice(bytes.data(), static_cast<size_t>(at - bytes.data())), payload};
  return {parts.data(), parts.size()};
}

FrameReader::FrameReader(grpc::ByteBuffer& buffer) : size_(buffer.Length()), chunks_(&buffer) {
  if (chunks_.status().ok() && size_ <= INT_MAX) in_.emplace(&chunks_);
}

bool FrameReader::ReadHeader() {
  uint32_t bytes = 0;
  if (!in_.has_value() || in_->ReadTag() != kHeaderTag || !in_->ReadVarint32(&bytes) ||
      bytes > kMaxHeader || !in_->ReadRaw(header_.data(), static_cast<int>(bytes))) {
    return false;
  }
  header_bytes_ = bytes;
  const auto at = [this] { return static_cast<size_t>(in_->CurrentPosition()); };
  if (at() == size_) return true;
  if (in_->ReadTag() != kPayloadTag || !in_->ReadVarint32(&bytes)) return false;
  payload_bytes_ = bytes;
  return size_ - at() == payload_bytes_;
}

bool FrameReader::ReadPayload(std::byte* out) {
  return payload_bytes_ == 0 || in_->ReadRaw(out, static_cast<int>(payload_bytes_));
}

}  // namespace passband
