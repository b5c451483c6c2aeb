// Goal: no bytes in a record make its parser crash or take memory without end, and what it takes
// is written back as a record that says the same.
#include "kvstore/catalog_records.h"
#include "tests/support/fuzz.h"

namespace passband {
namespace {

using test::Require;

// Kind, key, value.
std::string Seed(uint8_t kind, const std::string& key, const std::string& value) {
  std::string out(1, static_cast<char>(kind));
  out.push_back(static_cast<char>(key.size()));
  return out + key + value;
}

std::vector<std::string> Seeds() {
  const ModelSpec model{.fingerprint = "m",
                        .name = "Model",
                        .shape = {.layers = 2, .kv_heads = 4, .row_bytes = 64},
                        .detail = "detail"};
  const ColumnRecord plain{.number = 7, .blocks = {{1, 2}, {3, 4}}};
  ColumnRecord named = plain;
  named.named = true;
  const SequenceRecord whole{
      .id = 1, .tenant = "a", .model = "m", .committed = 128, .columns = {1, 2}, .ids = {1, 2, 3}};
  SequenceRecord cut = whole;
  cut.committed = 130;
  cut.tail = {{5, 6}, {7, 8}};
  const PrefixRecord first{.first = true, .tenant = "a", .model = "m", .blocks = {{1, 2}, {3, 4}}};
  PrefixRecord next = first;
  next.first = false;
  return {Seed(0, "m", Encode(model)),
          Seed(1, NumberKey(7), Encode(plain)),
          Seed(1, NumberKey(7), Encode(named)),
          Seed(2, NumberKey(1), Encode(whole)),
          Seed(2, NumberKey(1), Encode(cut)),
          Seed(3, "", Encode(uint64_t{300})),
          Seed(5, "", Encode(ProfileRecord{.id = 12, .json = "{}"})),
          Seed(4, std::string(32, 'd'), Encode(first)),
          Seed(4, std::string(32, 'e'), Encode(next))};
}

void Parse(uint8_t kind, const std::string& key, std::string_view value) {
  switch (kind % 6) {
    case 0:
      if (const auto model = ParseModel(key, value); model.ok()) {
        const auto again = ParseModel(key, Encode(*model));
        Require(again.ok() && again->name == model->name && again->shape == model->shape &&
                again->detail == model->detail);
      }
      break;
    case 1:
      if (const auto column = ParseColumn(key, value); column.ok()) {
        const auto again = ParseColumn(key, Encode(*column));
        Require(again.ok() && *again == *column && NumberKey(column->number) == key);
      }
      break;
    case 2:
      if (const auto sequence = ParseSequence(key, value); sequence.ok()) {
        const auto again = ParseSequence(key, Encode(*sequence));
        Require(again.ok() && *again == *sequence);
        CheckServable(*sequence, 2, {}).IgnoreError();
      }
      break;
    case 3:
      if (const auto fact = ParseFact(value); fact.ok()) {
        Require(*ParseFact(Encode(*fact)) == *fact);
      }
      break;
    case 4:
      if (const auto prefix = ParsePrefix(key, value); prefix.ok()) {
        const auto again = ParsePrefix(key, Encode(*prefix));
        Require(again.ok() && *again == *prefix && DigestKey(prefix->digest) == key);
      }
      break;
    default:
      if (const auto profile = ParseProfile(value); profile.ok()) {
        Require(*ParseProfile(Encode(*profile)) == *profile);
      }
  }
}

}  // namespace
}  // namespace passband

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  passband::test::BeginWith(argc, argv, passband::Seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  passband::test::Fields fields(passband::test::Text(data, size));
  const auto kind = fields.Take<uint8_t>();
  const std::string key = fields.TakeText();
  passband::Parse(kind, key, fields.Rest());
  return 0;
}
