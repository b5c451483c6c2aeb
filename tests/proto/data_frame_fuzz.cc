// Goal: no bytes of a gRPC message crash the reader of the data plane's frames, and what it takes
// is what protobuf's own parser reads in them, wherever gRPC cut the bytes.
#include <grpcpp/support/slice.h>

#include "passband/v1/data.pb.h"
#include "proto/data_frame.h"
#include "tests/support/fuzz.h"

namespace passband {
namespace {

using test::Require;

std::string Message(const std::string& header, const std::string& payload) {
  v1::DataRequest request;
  request.set_header(header);
  request.set_payload(payload);
  return request.SerializeAsString();
}

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  for (const std::string& message :
       {Message(std::string(48, 'h'), "payload"), Message("h", ""), Message("", "p"),
        Message(std::string(FrameReader::kMaxHeader, 'h'), std::string(300, 'p')),
        Message(std::string(FrameReader::kMaxHeader + 1, 'h'), "p")}) {
    seeds.push_back('\x05' + message);
  }
  return seeds;
}

// The bytes in two slices, as they come off a connection.
grpc::ByteBuffer Buffer(std::string_view bytes, size_t cut) {
  cut = std::min(cut, bytes.size());
  const std::string first(bytes.substr(0, cut)), second(bytes.substr(cut));
  const grpc::Slice slices[] = {grpc::Slice(first), grpc::Slice(second)};
  return {slices, 2};
}

void Read(size_t cut, std::string_view bytes) {
  grpc::ByteBuffer buffer = Buffer(bytes, cut);
  FrameReader reader(buffer);
  if (!reader.ReadHeader()) return;
  Require(reader.header().size() <= FrameReader::kMaxHeader);
  Require(reader.payload_bytes() <= bytes.size());
  std::string payload(reader.payload_bytes(), '\0');
  if (!reader.ReadPayload(reinterpret_cast<std::byte*>(payload.data()))) return;
  v1::DataRequest request;
  Require(request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  const auto header = reader.header();
  Require(request.header() ==
          std::string(reinterpret_cast<const char*>(header.data()), header.size()));
  Require(request.payload() == payload);
}

}  // namespace
}  // namespace passband

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  passband::test::BeginWith(argc, argv, passband::Seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 0) passband::Read(data[0], passband::test::Text(data + 1, size - 1));
  return 0;
}
