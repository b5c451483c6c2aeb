// Goal: no bytes in the index of a checkpoint's shards crash its reader, or lead it out of the
// checkpoint's folder.
#include "llama/safetensors.h"
#include "tests/llama/checkpoint.h"
#include "tests/support/fuzz.h"

namespace passband {
namespace {

using testing_support::TempFolder;

constexpr char kIndex[] = "model.safetensors.index.json";

const TempFolder& Folder() {
  static const TempFolder folder;
  return folder;
}

}  // namespace
}  // namespace passband

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  passband::testing_support::WriteFile(
      passband::Folder().File("one.safetensors"),
      passband::testing_support::SerializeFloats({{"a", {{2}, {1, 2}}}}));
  passband::test::BeginWith(
      argc, argv,
      {R"({"metadata":{"total_size":8},"weight_map":{"a":"one.safetensors"}})",
       R"({"weight_map":{"a":"../one.safetensors"}})", R"({"weight_map":{"a":7}})",
       R"({"weight_map":{"a":"one.safetensors","b":"one.safetensors"}})", R"({"weight_map":[]})"});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto& folder = passband::Folder();
  passband::testing_support::WriteFile(folder.File(passband::kIndex),
                                       std::string(passband::test::Text(data, size)));
  const auto opened = passband::Safetensors::Open(folder.path());
  // Nothing but the shard that is there.
  if (opened.ok()) passband::test::Require((*opened)->tensors().size() == 1);
  return 0;
}
