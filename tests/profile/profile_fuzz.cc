// Goal: no bytes make the profile parser crash, and what it takes writes back
// to the same digest.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "profile/profile.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parsed =
      passband::Profile::Parse(std::string(reinterpret_cast<const char*>(data), size));
  if (!parsed.ok()) return 0;
  const auto again = passband::Profile::Parse((*parsed)->ToJson());
  if (!again.ok() || (*again)->digest() != (*parsed)->digest()) std::abort();
  return 0;
}
