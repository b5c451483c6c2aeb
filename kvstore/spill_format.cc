#include "kvstore/spill_format.h"

#include <bit>
#include <charconv>
#include <cstring>

#include "base/hash.h"

namespace passband {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kPlaneMagic = 0x4c504250;   // "PBPL"
constexpr uint32_t kRecordMagic = 0x43524250;  // "PBRC"

struct PlaneFields {
  uint32_t magic = kPlaneMagic;
  uint16_t format = kSpillFormat;
  uint8_t plane = 0;
  uint8_t planes = 0;
  uint64_t block_bytes = 0;
  uint64_t generation = 0;
  uint64_t number = 0;
  uint64_t checksum = 0;  // of the fields above and the payload's checksum
};
static_assert(sizeof(PlaneFields) == kPlaneHeaderBytes);

struct RecordFields {
  uint32_t magic = kRecordMagic;
  uint32_t format = kSpillFormat;
  uint64_t checksum = 0;  // of both lengths, the key and the value
};
static_assert(sizeof(RecordFields) == kRecordHeaderBytes);

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

uint64_t Sealed(PlaneFields fields, std::span<const std::byte> payload) {
  fields.checksum = Checksum(payload);
  return Checksum(std::as_bytes(std::span(&fields, 1)));
}

uint64_t Sealed(std::string_view record_key, std::string_view value) {
  const std::array<uint64_t, 4> parts = {record_key.size(), value.size(),
                                         Checksum(Bytes(record_key)), Checksum(Bytes(value))};
  return Checksum(std::as_bytes(std::span(parts)));
}

constexpr char kGenerationPrefix[] = "generation-";
constexpr char kSalvaged[] = "-salvaged";

}  // namespace

PlaneKey MakePlaneKey(uint64_t number, uint32_t plane) {
  PlaneKey key;
  for (size_t i = 0; i < 8; ++i) key[i] = static_cast<char>(number >> (56 - 8 * i));
  key[8] = static_cast<char>(plane);
  return key;
}

std::optional<PlaneId> ParsePlaneKey(std::string_view key) {
  if (key.size() != kPlaneKeyBytes) return std::nullopt;
  PlaneId id;
  for (size_t i = 0; i < 8; ++i) id.number = id.number << 8 | static_cast<uint8_t>(key[i]);
  id.plane = static_cast<uint8_t>(key[8]);
  if (id.plane >= kMaxPlanes) return std::nullopt;
  return id;
}

PlaneHeader MakePlaneHeader(const BlockAddress& address, uint32_t plane, const PlaneShape& shape,
                            std::span<const std::byte> payload) {
  PlaneFields fields{.plane = static_cast<uint8_t>(plane),
                     .planes = static_cast<uint8_t>(shape.planes),
                     .block_bytes = shape.block_bytes,
                     .generation = address.generation,
                     .number = address.number};
  fields.checksum = Sealed(fields, payload);
  return std::bit_cast<PlaneHeader>(fields);
}

StatusOr<PlaneShape> CheckPlane(const BlockAddress& address, uint32_t plane,
                                std::string_view value) {
  if (value.size() < kPlaneHeaderBytes) {
    return Error(StatusCode::kDataLoss, "plane {} of block {}.{} has {} bytes only", plane,
                 address.generation, address.number, value.size());
  }
  PlaneFields fields;
  std::memcpy(&fields, value.data(), sizeof(fields));
  const std::string_view payload = value.substr(kPlaneHeaderBytes);
  const bool described = fields.magic == kPlaneMagic && fields.format == kSpillFormat &&
                         fields.plane == plane && fields.generation == address.generation &&
                         fields.number == address.number && fields.planes != 0 &&
                         fields.planes <= kMaxPlanes &&
                         fields.block_bytes == payload.size() * fields.planes;
  if (!described || fields.checksum != Sealed(fields, Bytes(payload))) {
    return Error(StatusCode::kDataLoss, "plane {} of block {}.{} is damaged", plane,
                 address.generation, address.number);
  }
  return PlaneShape{.block_bytes = fields.block_bytes, .planes = fields.planes};
}

std::string MakeRecordKey(RecordKind kind, std::string_view key) {
  std::string out(1, static_cast<char>(kind));
  return out.append(key);
}

std::string MakeRecordValue(std::string_view record_key, std::string_view value) {
  const RecordFields fields{.checksum = Sealed(record_key, value)};
  std::string out(kRecordHeaderBytes, '\0');
  std::memcpy(out.data(), &fields, sizeof(fields));
  return out.append(value);
}

StatusOr<std::string_view> CheckRecord(std::string_view record_key, std::string_view stored) {
  if (record_key.empty() || stored.size() < kRecordHeaderBytes) {
    return Error(StatusCode::kDataLoss, "a record of {} bytes", stored.size());
  }
  RecordFields fields;
  std::memcpy(&fields, stored.data(), sizeof(fields));
  const std::string_view value = stored.substr(kRecordHeaderBytes);
  if (fields.magic != kRecordMagic || fields.format != kSpillFormat ||
      fields.checksum != Sealed(record_key, value)) {
    return Error(StatusCode::kDataLoss, "a record of kind {} is damaged",
                 static_cast<int>(record_key[0]));
  }
  return value;
}

std::string FormatGenerationName(const GenerationName& name) {
  std::string out = fmt::format("{}{}", kGenerationPrefix, name.generation);
  for (uint32_t i = 0; i < name.salvages; ++i) out += kSalvaged;
  return out;
}

std::optional<GenerationName> ParseGenerationName(const std::string& family) {
  std::string_view rest = family;
  if (!rest.starts_with(kGenerationPrefix)) return std::nullopt;
  rest.remove_prefix(sizeof(kGenerationPrefix) - 1);
  GenerationName name;
  const auto [end, error] =
      std::from_chars(rest.data(), rest.data() + rest.size(), name.generation);
  if (error != std::errc{} || name.generation == 0) return std::nullopt;
  rest.remove_prefix(static_cast<size_t>(end - rest.data()));
  for (; rest.starts_with(kSalvaged); rest.remove_prefix(sizeof(kSalvaged) - 1)) ++name.salvages;
  if (!rest.empty()) return std::nullopt;
  return name;
}

}  // namespace passband
