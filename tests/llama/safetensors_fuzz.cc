// Goal: no bytes make the safetensors parser crash, hang, or hand out a tensor
// that does not lie inside the file.
#include <cstdlib>

#include "llama/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  const auto tensors = passband::ParseSafetensors(file, "fuzz");
  if (!tensors.ok()) return 0;
  for (const passband::TensorView& tensor : *tensors) {
    const bool inside = tensor.bytes.data() >= file.data() &&
                        tensor.bytes.data() + tensor.bytes.size() <= file.data() + file.size();
    if (!inside) std::abort();
  }
  return 0;
}
