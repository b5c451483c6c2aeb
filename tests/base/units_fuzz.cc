// Goal: no text makes the parsers of sizes, counts and times crash or overflow.
#include "base/units.h"
#include "tests/support/fuzz.h"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  passband::test::BeginWith(argc, argv,
                            {"64GiB", "1.5 TB", "512", "10ms", "2.5h", "18446744073709551615",
                             "99999999999999999999EiB", "1e300s", "-1", "nan", "0x10"});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using passband::test::Require;
  const std::string text(passband::test::Text(data, size));
  const auto count = passband::ParseCount(text);
  const auto bytes = passband::ParseBytes(text);
  // A count is a size, in bytes.
  if (count.has_value() && bytes.ok()) Require(*count == *bytes);
  if (const auto time = passband::ParseDuration(text); time.ok()) Require(time->count() >= 0);
  return 0;
}
