// DataFrame: data.proto's messages, written and read where their bytes lie: a payload is neither
// copied into a protobuf object nor out of one.
//
// Units      bytes.
// Threads    one at a time.
// Ownership  the buffer given to a FrameReader must outlive it.
#pragma once

#include <google/protobuf/io/coded_stream.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <array>
#include <cstddef>
#include <optional>
#include <span>

namespace passband {

// `payload` may be empty.
grpc::ByteBuffer Frame(std::span<const std::byte> header, const grpc::Slice& payload);

class FrameReader {
 public:
  static constexpr size_t kMaxHeader = 256;

  explicit FrameReader(grpc::ByteBuffer& buffer);

  // Reads up to the payload, once. False: not such a message.
  bool ReadHeader();
  std::span<const std::byte> header() const { return {header_.data(), header_bytes_}; }
  size_t payload_bytes() const { return payload_bytes_; }
  // Moves the payload, once, to `out`, which holds payload_bytes(). False: it is cut short.
  bool ReadPayload(std::byte* out);

 private:
  const size_t size_;
  grpc::ProtoBufferReader chunks_;
  // Destroyed before chunks_, to which it gives back what it has not read.
  std::optional<google::protobuf::io::CodedInputStream> in_;
  std::array<std::byte, kMaxHeader> header_{};
  size_t header_bytes_ = 0;
  size_t payload_bytes_ = 0;
};

}  // namespace passband
