// Goal: no text makes the parser of token ids crash or hang, what it takes is below the
// vocabulary's size, and bytes come back from their tokens.
#include "llama/tokenizer.h"
#include "tests/support/fuzz.h"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  passband::test::BeginWith(argc, argv,
                            {"[1, 2, 255]", "1 2\n3", "[]", "[1,]", "256", "[4294967296]"});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using passband::test::Require;
  const std::string_view text = passband::test::Text(data, size);
  Require(passband::DecodeBytes(passband::EncodeBytes(text)) == text);
  const auto ids = passband::ParseTokenIds(text, passband::kByteVocabulary);
  if (!ids.ok()) return 0;
  std::string again = "[";
  for (const uint32_t id : *ids) {
    Require(id < passband::kByteVocabulary);
    again += (again.size() > 1 ? "," : "") + std::to_string(id);
  }
  Require(*passband::ParseTokenIds(again + "]", passband::kByteVocabulary) == *ids);
  return 0;
}
