// Goal: no bytes make the profile parser crash, and what it takes writes back
// to the same digest.
#include "profile/profile.h"
#include "tests/profile/small_profile.h"
#include "tests/support/fuzz.h"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  using passband::kernels::SliceEncoding;
  std::vector<std::string> seeds;
  for (const auto encoding : {SliceEncoding::kBf16, SliceEncoding::kInt4, SliceEncoding::kInt2}) {
    seeds.push_back(passband::SmallProfile(encoding).ToJson());
  }
  passband::test::BeginWith(argc, argv, seeds);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parsed =
      passband::Profile::Parse(std::string(reinterpret_cast<const char*>(data), size));
  if (!parsed.ok()) return 0;
  const auto again = passband::Profile::Parse((*parsed)->ToJson());
  passband::test::Require(again.ok() && (*again)->digest() == (*parsed)->digest());
  return 0;
}
