// SpillFormat: how planes of blocks and records lie in the spill database.
//
//   generation-<number>   key: number of the block, big-endian, 8 bytes; plane, 1 byte
//                         value: header, payload
//   records-a, records-b  the catalog, twice: a damaged file costs one copy at most
//                         key: kind, 1 byte; the record's key
//                         value: header, the record's value
//
// Each header holds a checksum over all that it describes, the key included, so that
// neither damaged nor misplaced bytes pass for what was stored.
//
// Units    bytes; integers of headers are little-endian.
// Threads  functions of their arguments only.
// Errors   kDataLoss when bytes are not what their key says.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "kvstore/catalog.h"
#include "kvstore/tier.h"

namespace passband {

inline constexpr uint32_t kSpillFormat = 1;
inline constexpr size_t kPlaneKeyBytes = 9;
inline constexpr size_t kPlaneHeaderBytes = 40;
inline constexpr size_t kRecordHeaderBytes = 16;
inline constexpr char kRecordsA[] = "records-a";
inline constexpr char kRecordsB[] = "records-b";

using PlaneKey = std::array<char, kPlaneKeyBytes>;
using PlaneHeader = std::array<char, kPlaneHeaderBytes>;

struct PlaneShape {
  uint64_t block_bytes = 0;
  uint32_t planes = 0;

  bool operator==(const PlaneShape&) const = default;
};

PlaneKey MakePlaneKey(uint64_t number, uint32_t plane);
struct PlaneId {
  uint64_t number = 0;
  uint32_t plane = 0;
};
std::optional<PlaneId> ParsePlaneKey(std::string_view key);

PlaneHeader MakePlaneHeader(const BlockAddress& address, uint32_t plane, const PlaneShape& shape,
                            std::span<const std::byte> payload);
// The shape that the value was put with; its payload is value.substr(kPlaneHeaderBytes).
StatusOr<PlaneShape> CheckPlane(const BlockAddress& address, uint32_t plane,
                                std::string_view value);

// Facts of the database itself share the records' families, under a kind that no record has.
inline constexpr RecordKind kInternalRecord{0};
std::string MakeRecordKey(RecordKind kind, std::string_view key);
std::string MakeRecordValue(std::string_view record_key, std::string_view value);
// The record's value, within `stored`.
StatusOr<std::string_view> CheckRecord(std::string_view record_key, std::string_view stored);

// Column families of generations. A generation that lost files is copied, without them,
// to a family with "-salvaged" at its end.
struct GenerationName {
  uint64_t generation = 0;
  uint32_t salvages = 0;
};
std::string FormatGenerationName(const GenerationName& name);
std::optional<GenerationName> ParseGenerationName(const std::string& family);

}  // namespace passband
