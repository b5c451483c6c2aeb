// Goal: no bytes make the safetensors parser crash, hang, or hand out a tensor
// that does not lie inside the file.
#include "llama/safetensors.h"
#include "tests/llama/checkpoint.h"
#include "tests/support/fuzz.h"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  using passband::testing_support::SafetensorsBytes;
  const std::string two =
      passband::testing_support::SerializeFloats({{"a", {{2}, {1, 2}}}, {"b", {{1, 1}, {3}}}});
  passband::test::BeginWith(
      argc, argv,
      {two, SafetensorsBytes("{}", ""),
       SafetensorsBytes(R"({"a":{"dtype":"BF16","shape":[0],"data_offsets":[0,0]}})", ""),
       SafetensorsBytes(R"({"a":{"dtype":"F16","shape":[18446744073709551615,2],)"
                        R"("data_offsets":[0,4]}})",
                        "data")});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  const auto tensors = passband::ParseSafetensors(file, "fuzz");
  if (!tensors.ok()) return 0;
  for (const passband::TensorView& tensor : *tensors) {
    const bool inside = tensor.bytes.data() >= file.data() &&
                        tensor.bytes.data() + tensor.bytes.size() <= file.data() + file.size();
    passband::test::Require(inside);
  }
  return 0;
}
