// Catalog records: what the store writes into the catalog, and how it is read back.
//
// A record is a version and its fields, little-endian. The catalog keeps it whole; parsing
// trusts it no further than that: one that is cut, too long, or of a later version is an error.
//
// Units    lengths in tokens.
// Threads  safe: no state.
// Errors   kDataLoss         damaged
//          kUnimplemented    written by a later version
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kvstore/prefix_chain.h"
#include "kvstore/tier.h"
#include "kvstore/types.h"

namespace passband {

// 64 tokens in every layer. A named one can be found by prefix.
struct ColumnRecord {
  uint64_t number = 0;
  bool named = false;
  PrefixDigest digest{};             // named: of the chain up to here
  std::vector<BlockAddress> blocks;  // by layer

  bool operator==(const ColumnRecord&) const = default;
};

struct SequenceRecord {
  uint64_t id = 0;
  std::string tenant;
  std::string model;
  uint64_t max_tokens = 0;
  uint64_t committed = 0;
  std::vector<uint64_t> columns;  // numbers, committed / 64 of them
  std::vector<uint32_t> ids;
  std::vector<BlockAddress> tail;  // by layer, when committed is no multiple of 64

  bool operator==(const SequenceRecord&) const = default;
};

// Keys sort as the numbers do.
std::string NumberKey(uint64_t number);
// Facts about the store: generations up to here were forgotten; ids up to here may be taken.
inline constexpr char kForgottenKey[] = "forgotten";
inline constexpr char kIdsKey[] = "ids";

std::string Encode(const ModelSpec& model);  // key: the fingerprint
std::string Encode(const ColumnRecord& column);
std::string Encode(const SequenceRecord& sequence);
std::string Encode(uint64_t fact);

StatusOr<ModelSpec> ParseModel(std::string_view key, std::string_view value);
StatusOr<ColumnRecord> ParseColumn(std::string_view key, std::string_view value);
StatusOr<SequenceRecord> ParseSequence(std::string_view key, std::string_view value);
StatusOr<uint64_t> ParseFact(std::string_view value);

}  // namespace passband
