// Goal: no bytes make the parser of a checkpoint's config.json crash or hang.
#include <cstddef>
#include <cstdint>
#include <string>

#include "llama/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  (void)passband::ParseLlamaConfig(text, "fuzz");
  return 0;
}
