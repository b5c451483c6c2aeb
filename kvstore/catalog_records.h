// Catalog records: what the store writes into the catalog, and how it is read back.
//
// A record is a version and its fields, little-endian; that of a profile is a line with its id,
// and its JSON. The catalog keeps it whole; parsing
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

#include "absl/container/flat_hash_map.h"
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

// A column that the prefix index holds, of whatever sequence it was.
struct PrefixRecord {
  PrefixDigest digest{};
  bool first = false;
  PrefixDigest parent{};  // of the column before, unless it is the first
  std::string tenant;
  std::string model;
  std::vector<BlockAddress> blocks;  // by layer

  bool operator==(const PrefixRecord&) const = default;
};

// A profile's text is its own affair; whoever sliced with it knows it by the id.
struct ProfileRecord {
  uint64_t id = 0;
  std::string json;

  bool operator==(const ProfileRecord&) const = default;
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
std::string DigestKey(const PrefixDigest& digest);
// Facts about the store: generations up to here were forgotten; ids up to here may be taken.
inline constexpr char kForgottenKey[] = "forgotten";
inline constexpr char kIdsKey[] = "ids";

std::string Encode(const ModelSpec& model);        // key: the fingerprint
std::string Encode(const ProfileRecord& profile);  // key: the digest
std::string Encode(const ColumnRecord& column);
std::string Encode(const SequenceRecord& sequence);
std::string Encode(const PrefixRecord& prefix);
std::string Encode(uint64_t fact);

StatusOr<ModelSpec> ParseModel(std::string_view key, std::string_view value);
StatusOr<ProfileRecord> ParseProfile(std::string_view value);
StatusOr<ColumnRecord> ParseColumn(std::string_view key, std::string_view value);
StatusOr<SequenceRecord> ParseSequence(std::string_view key, std::string_view value);
StatusOr<PrefixRecord> ParsePrefix(std::string_view key, std::string_view value);
StatusOr<uint64_t> ParseFact(std::string_view value);

// By number.
using ColumnRecords = absl::flat_hash_map<uint64_t, ColumnRecord>;

// Whether a sequence of a model with so many layers can be made again: kDataLoss when a column
// that it is made of is not there, or does not fit. Whether its blocks are whole is not asked.
Status CheckServable(const SequenceRecord& record, uint32_t layers, const ColumnRecords& columns);

}  // namespace passband
