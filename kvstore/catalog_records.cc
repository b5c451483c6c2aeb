#include "kvstore/catalog_records.h"

#include <bit>
#include <charconv>
#include <cstring>
#include <type_traits>

namespace passband {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint8_t kVersion = 1;
// Beyond anything that is written.
constexpr uint64_t kMaxText = 1 << 16;
constexpr uint64_t kMaxLayers = 1 << 12;
constexpr uint64_t kMaxTokens = uint64_t{1} << 32;

class Writer {
 public:
  Writer() { Fixed(kVersion); }

  template <typename T>
  void Fixed(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    value_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void Number(uint64_t value) {
    for (; value >= 0x80; value >>= 7) value_.push_back(static_cast<char>(value | 0x80));
    value_.push_back(static_cast<char>(value));
  }
  void Text(const std::string& text) {
    Number(text.size());
    value_ += text;
  }
  void Ids(const std::vector<uint32_t>& ids) {
    Number(ids.size());
    value_.append(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(uint32_t));
  }
  void Addresses(const std::vector<BlockAddress>& addresses) {
    Number(addresses.size());
    for (const BlockAddress& address : addresses) {
      Number(address.generation);
      Number(address.number);
    }
  }
  std::string Finish() { return std::move(value_); }

 private:
  std::string value_;
};

// Once something does not fit, everything read is zero and ok() is false.
class Reader {
 public:
  explicit Reader(std::string_view fields) : left_(fields) {}

  template <typename T>
  T Fixed() {
    T value{};
    if (left_.size() < sizeof(T)) return Fail(value);
    std::memcpy(&value, left_.data(), sizeof(T));
    left_.remove_prefix(sizeof(T));
    return value;
  }
  uint64_t Number() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = Fixed<uint8_t>();
      if (shift == 63 && byte > 1) break;
      value |= uint64_t{byte & 0x7fu} << shift;
      if ((byte & 0x80) == 0) return value;
    }
    return Fail(uint64_t{0});
  }
  // A count of things that take `bytes` each at least, `most` of them.
  uint64_t Count(uint64_t most, uint64_t bytes) {
    const uint64_t count = Number();
    if (count > most || count > left_.size() / bytes) return Fail(uint64_t{0});
    return count;
  }
  std::string Text() {
    const uint64_t size = Count(kMaxText, 1);
    std::string text(left_.substr(0, size));
    left_.remove_prefix(size);
    return text;
  }
  std::vector<uint32_t> Ids() {
    std::vector<uint32_t> ids(Count(kMaxTokens, sizeof(uint32_t)));
    if (!ids.empty()) std::memcpy(ids.data(), left_.data(), ids.size() * sizeof(uint32_t));
    left_.remove_prefix(ids.size() * sizeof(uint32_t));
    return ids;
  }
  std::vector<BlockAddress> Addresses() {
    std::vector<BlockAddress> addresses(Count(kMaxLayers, 2));
    for (BlockAddress& address : addresses) {
      address.generation = Number();
      address.number = Number();
      if (!address) Fail(0);
    }
    return addresses;
  }
  bool Done() const { return ok_ && left_.empty(); }
  bool ok() const { return ok_; }

 private:
  template <typename T>
  T Fail(T zero) {
    ok_ = false;
    left_ = {};
    return zero;
  }

  std::string_view left_;
  bool ok_ = true;
};

Status Damaged(const char* what) { return Error(StatusCode::kDataLoss, "a damaged {}", what); }

// The fields behind the version.
StatusOr<std::string_view> Open(std::string_view value, const char* what) {
  if (value.empty()) return Damaged(what);
  const auto version = static_cast<uint8_t>(value.front());
  if (version > kVersion) {
    return Error(StatusCode::kUnimplemented, "a {} of version {}; this program reads up to {}",
                 what, version, kVersion);
  }
  if (version != kVersion) return Damaged(what);
  return value.substr(1);
}

StatusOr<uint64_t> ParseKey(std::string_view key, const char* what) {
  if (key.size() != sizeof(uint64_t)) return Damaged(what);
  uint64_t number = 0;
  for (const char c : key) number = number << 8 | static_cast<uint8_t>(c);
  return number;
}

// Runs of numbers that follow each other.
void EncodeRuns(const std::vector<uint64_t>& numbers, Writer& out) {
  std::vector<std::pair<uint64_t, uint64_t>> runs;
  for (const uint64_t number : numbers) {
    if (!runs.empty() && number == runs.back().first + runs.back().second) {
      ++runs.back().second;
    } else {
      runs.emplace_back(number, 1);
    }
  }
  out.Number(runs.size());
  for (const auto& [first, count] : runs) {
    out.Number(first);
    out.Number(count);
  }
}

// False unless they are `count` numbers.
bool ParseRuns(Reader& in, uint64_t count, std::vector<uint64_t>& numbers) {
  for (uint64_t runs = in.Count(count, 2); runs > 0 && in.ok(); --runs) {
    const uint64_t first = in.Number();
    const uint64_t length = in.Number();
    if (length == 0 || length > count - numbers.size() || first > ~uint64_t{0} - length) {
      return false;
    }
    for (uint64_t i = 0; i < length; ++i) numbers.push_back(first + i);
  }
  return numbers.size() == count;
}

}  // namespace

std::string NumberKey(uint64_t number) {
  std::string key;
  for (int shift = 56; shift >= 0; shift -= 8) key.push_back(static_cast<char>(number >> shift));
  return key;
}

std::string DigestKey(const PrefixDigest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

std::string Encode(const ModelSpec& model) {
  Writer out;
  out.Text(model.name);
  out.Fixed(model.shape.layers);
  out.Fixed(model.shape.kv_heads);
  out.Fixed(model.shape.row_bytes);
  out.Text(model.detail);
  return out.Finish();
}

StatusOr<ModelSpec> ParseModel(std::string_view key, std::string_view value) {
  PASSBAND_ASSIGN_OR_RETURN(const std::string_view fields, Open(value, "model record"));
  Reader in(fields);
  ModelSpec model{.fingerprint = std::string(key), .name = in.Text(), .shape = {}};
  model.shape.layers = in.Fixed<uint32_t>();
  model.shape.kv_heads = in.Fixed<uint32_t>();
  model.shape.row_bytes = in.Fixed<uint32_t>();
  model.detail = in.Text();
  if (!in.Done()) return Damaged("model record");
  return model;
}

std::string Encode(const ProfileRecord& profile) {
  return fmt::format("{}\n{}", profile.id, profile.json);
}

StatusOr<ProfileRecord> ParseProfile(std::string_view value) {
  ProfileRecord profile;
  const char* const end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, profile.id);
  if (error != std::errc() || profile.id == 0 || stop == end || *stop != '\n') {
    return Damaged("profile record");
  }
  profile.json.assign(stop + 1, end);
  return profile;
}

std::string Encode(const ColumnRecord& column) {
  Writer out;
  out.Fixed(static_cast<uint8_t>(column.named ? 1 : 0));
  if (column.named) out.Fixed(column.digest);
  out.Addresses(column.blocks);
  return out.Finish();
}

StatusOr<ColumnRecord> ParseColumn(std::string_view key, std::string_view value) {
  constexpr char kWhat[] = "column record";
  PASSBAND_ASSIGN_OR_RETURN(const std::string_view fields, Open(value, kWhat));
  ColumnRecord column;
  PASSBAND_ASSIGN_OR_RETURN(column.number, ParseKey(key, kWhat));
  Reader in(fields);
  const auto named = in.Fixed<uint8_t>();
  column.named = named == 1;
  if (column.named) column.digest = in.Fixed<PrefixDigest>();
  column.blocks = in.Addresses();
  if (!in.Done() || named > 1 || column.blocks.empty()) return Damaged(kWhat);
  return column;
}

std::string Encode(const SequenceRecord& sequence) {
  Writer out;
  out.Text(sequence.tenant);
  out.Text(sequence.model);
  out.Number(sequence.max_tokens);
  out.Number(sequence.committed);
  EncodeRuns(sequence.columns, out);
  out.Ids(sequence.ids);
  out.Addresses(sequence.tail);
  return out.Finish();
}

StatusOr<SequenceRecord> ParseSequence(std::string_view key, std::string_view value) {
  constexpr char kWhat[] = "sequence record";
  PASSBAND_ASSIGN_OR_RETURN(const std::string_view fields, Open(value, kWhat));
  SequenceRecord sequence;
  PASSBAND_ASSIGN_OR_RETURN(sequence.id, ParseKey(key, kWhat));
  Reader in(fields);
  sequence.tenant = in.Text();
  sequence.model = in.Text();
  sequence.max_tokens = in.Number();
  sequence.committed = in.Number();
  if (!in.ok() || sequence.committed > kMaxTokens ||
      !ParseRuns(in, sequence.committed / kBlockTokens, sequence.columns)) {
    return Damaged(kWhat);
  }
  sequence.ids = in.Ids();
  sequence.tail = in.Addresses();
  const bool has_tail = sequence.committed % kBlockTokens != 0;
  if (!in.Done() || sequence.tail.empty() == has_tail) return Damaged(kWhat);
  return sequence;
}

std::string Encode(const PrefixRecord& prefix) {
  Writer out;
  out.Fixed(static_cast<uint8_t>(prefix.first ? 1 : 0));
  if (!prefix.first) out.Fixed(prefix.parent);
  out.Text(prefix.tenant);
  out.Text(prefix.model);
  out.Addresses(prefix.blocks);
  return out.Finish();
}

StatusOr<PrefixRecord> ParsePrefix(std::string_view key, std::string_view value) {
  constexpr char kWhat[] = "prefix record";
  PASSBAND_ASSIGN_OR_RETURN(const std::string_view fields, Open(value, kWhat));
  PrefixRecord prefix;
  if (key.size() != prefix.digest.size()) return Damaged(kWhat);
  std::memcpy(prefix.digest.data(), key.data(), key.size());
  Reader in(fields);
  const auto first = in.Fixed<uint8_t>();
  prefix.first = first == 1;
  if (!prefix.first) prefix.parent = in.Fixed<PrefixDigest>();
  prefix.tenant = in.Text();
  prefix.model = in.Text();
  prefix.blocks = in.Addresses();
  if (!in.Done() || first > 1 || prefix.blocks.empty()) return Damaged(kWhat);
  return prefix;
}

std::string Encode(uint64_t fact) {
  Writer out;
  out.Number(fact);
  return out.Finish();
}

StatusOr<uint64_t> ParseFact(std::string_view value) {
  PASSBAND_ASSIGN_OR_RETURN(const std::string_view fields, Open(value, "fact about the store"));
  Reader in(fields);
  const uint64_t fact = in.Number();
  if (!in.Done()) return Damaged("fact about the store");
  return fact;
}

Status CheckServable(const SequenceRecord& record, uint32_t layers, const ColumnRecords& columns) {
  if (!record.tail.empty() && record.tail.size() != layers) {
    return Error(StatusCode::kDataLoss, "a tail of {} layers, of {}", record.tail.size(), layers);
  }
  for (const uint64_t number : record.columns) {
    const auto found = columns.find(number);
    if (found == columns.end() || found->second.blocks.size() != layers) {
      return Error(StatusCode::kDataLoss, "column {} is damaged or gone", number);
    }
  }
  return OkStatus();
}

}  // namespace passband
