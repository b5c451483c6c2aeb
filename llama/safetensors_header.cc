// The header of a safetensors file: eight bytes of length, then a JSON object
// of name -> {dtype, shape, data_offsets}. Parsed event by event, so that
// duplicate names are seen and nesting is bounded by what the format allows.
#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "llama/safetensors.h"

namespace passband {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100ULL << 20;
constexpr size_t kMaxRank = 8;
constexpr char kMetadataName[] = "__metadata__";

struct DTypeInfo {
  TensorDType dtype;
  const char* name;
  size_t bytes;
};

constexpr std::array<DTypeInfo, 15> kDTypes{{{TensorDType::kF64, "F64", 8},
                                             {TensorDType::kF32, "F32", 4},
                                             {TensorDType::kF16, "F16", 2},
                                             {TensorDType::kBf16, "BF16", 2},
                                             {TensorDType::kI64, "I64", 8},
                                             {TensorDType::kI32, "I32", 4},
                                             {TensorDType::kI16, "I16", 2},
                                             {TensorDType::kI8, "I8", 1},
                                             {TensorDType::kU64, "U64", 8},
                                             {TensorDType::kU32, "U32", 4},
                                             {TensorDType::kU16, "U16", 2},
                                             {TensorDType::kU8, "U8", 1},
                                             {TensorDType::kBool, "BOOL", 1},
                                             {TensorDType::kF8E4M3, "F8_E4M3", 1},
                                             {TensorDType::kF8E5M2, "F8_E5M2", 1}}};

const DTypeInfo& InfoOf(TensorDType dtype) { return kDTypes.at(static_cast<size_t>(dtype)); }

// One tensor as its JSON says it, not yet checked against the file.
struct Entry {
  std::string name;
  std::optional<std::string> dtype;
  std::optional<std::vector<uint64_t>> shape;
  std::optional<std::vector<uint64_t>> offsets;
};

// A name from outside, cut for a message.
std::string Quote(const std::string& text) {
  constexpr size_t kShown = 80;
  std::string out = "'";
  for (const char c : text.substr(0, kShown)) {
    out += static_cast<unsigned char>(c) < ' ' ? '?' : c;
  }
  return out + (text.size() > kShown ? "...'" : "'");
}

// Receives the parser's events. Every handler answers false to stop.
class HeaderEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  const std::string& error() const { return error_; }
  std::vector<Entry>& entries() { return entries_; }

  bool null() override { return Unexpected("null"); }
  bool boolean(bool /*value*/) override { return Unexpected("a boolean"); }
  bool number_integer(number_integer_t /*value*/) override {
    return Unexpected("a negative number");
  }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override {
    return Unexpected("a fractional number");
  }
  bool binary(binary_t& /*value*/) override { return Unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (list_ == nullptr) return Unexpected("a number");
    if (list_->size() >= kMaxRank) return Fail("a list is longer than 8");
    list_->push_back(value);
    return true;
  }

  bool string(string_t& value) override {
    if (depth_ == 2 && in_metadata_) return true;
    if (depth_ != 2 || list_ != nullptr || field_ != "dtype") return Unexpected("a string");
    if (entries_.back().dtype.has_value()) return Fail("dtype is given twice");
    entries_.back().dtype = value;
    return true;
  }

  bool start_object(size_t /*elements*/) override {
    if (depth_ >= 2 || list_ != nullptr) return Unexpected("an object");
    ++depth_;
    return true;
  }

  bool key(string_t& name) override {
    if (depth_ == 2) {
      field_ = name;
      return true;
    }
    if (!names_.insert(name).second) return Fail("tensor " + Quote(name) + " is there twice");
    in_metadata_ = name == kMetadataName;
    if (!in_metadata_) entries_.push_back({.name = name, .dtype = {}, .shape = {}, .offsets = {}});
    return true;
  }

  bool end_object() override {
    --depth_;
    return true;
  }

  bool start_array(size_t /*elements*/) override {
    if (depth_ != 2 || in_metadata_ || list_ != nullptr) return Unexpected("a list");
    Entry& entry = entries_.back();
    std::optional<std::vector<uint64_t>>* target = nullptr;
    if (field_ == "shape") target = &entry.shape;
    if (field_ == "data_offsets") target = &entry.offsets;
    if (target == nullptr) return Unexpected("a list");
    if (target->has_value()) return Fail(field_ + " is given twice");
    list_ = &target->emplace();
    return true;
  }

  bool end_array() override {
    list_ = nullptr;
    return true;
  }

  bool parse_error(size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    return Fail(fmt::format("not JSON at byte {}", position));
  }

 private:
  bool Unexpected(const char* what) { return Fail(std::string(what) + " where none may be"); }

  bool Fail(const std::string& what) {
    error_ = entries_.empty() ? what : "at tensor " + Quote(entries_.back().name) + ": " + what;
    return false;
  }

  std::string error_;
  std::vector<Entry> entries_;
  std::set<std::string> names_;
  std::string field_;
  bool in_metadata_ = false;
  int depth_ = 0;
  std::vector<uint64_t>* list_ = nullptr;  // the list being read, in entries_.back()
};

// Bytes of a tensor, or nothing when the shape overflows.
std::optional<uint64_t> BytesOf(const std::vector<uint64_t>& shape, size_t element_bytes) {
  uint64_t bytes = element_bytes;
  for (const uint64_t dimension : shape) {
    if (__builtin_mul_overflow(bytes, dimension, &bytes)) return std::nullopt;
  }
  return bytes;
}

StatusOr<TensorView> CheckEntry(const Entry& entry, std::span<const std::byte> data,
                                const std::string& file_name) {
  const auto bad = [&](const std::string& what) {
    return Error(StatusCode::kInvalidArgument, "{}: tensor {}: {}", file_name, Quote(entry.name),
                 what);
  };
  if (!entry.dtype || !entry.shape || !entry.offsets) {
    return bad("dtype, shape or data_offsets is missing");
  }
  const auto* info = std::find_if(kDTypes.begin(), kDTypes.end(), [&](const DTypeInfo& known) {
    return *entry.dtype == known.name;
  });
  if (info == kDTypes.end()) return bad("unknown dtype " + Quote(*entry.dtype));
  if (entry.offsets->size() != 2) return bad("data_offsets is not a pair");
  const uint64_t begin = (*entry.offsets)[0];
  const uint64_t end = (*entry.offsets)[1];
  if (begin > end || end > data.size()) {
    return bad(fmt::format("data_offsets [{}, {}] do not lie in the {} bytes of data", begin, end,
                           data.size()));
  }
  const std::optional<uint64_t> bytes = BytesOf(*entry.shape, info->bytes);
  if (!bytes || *bytes != end - begin) {
    return bad(fmt::format("shape {} of {} does not fill its {} bytes", ShapeText(*entry.shape),
                           info->name, end - begin));
  }
  return TensorView{.name = entry.name,
                    .dtype = info->dtype,
                    .shape = *entry.shape,
                    .bytes = data.subspan(begin, end - begin)};
}

// Tensors must follow each other without gap or overlap to the file's end.
Status CheckTiling(std::span<const TensorView> tensors, std::span<const std::byte> data,
                   const std::string& file_name) {
  std::vector<const TensorView*> in_order;
  for (const TensorView& tensor : tensors) in_order.push_back(&tensor);
  std::sort(in_order.begin(), in_order.end(), [](const TensorView* a, const TensorView* b) {
    return std::pair(a->bytes.data(), a->bytes.size()) <
           std::pair(b->bytes.data(), b->bytes.size());
  });
  const std::byte* expected = data.data();
  for (const TensorView* tensor : in_order) {
    if (tensor->bytes.data() != expected) {
      return Error(StatusCode::kInvalidArgument, "{}: tensor {} {} the one before it", file_name,
                   Quote(tensor->name),
                   tensor->bytes.data() < expected ? "overlaps" : "leaves a gap after");
    }
    expected += tensor->bytes.size();
  }
  if (expected != data.data() + data.size()) {
    return Error(StatusCode::kInvalidArgument, "{}: {} bytes after the last tensor", file_name,
                 data.data() + data.size() - expected);
  }
  return OkStatus();
}

}  // namespace

size_t TensorDTypeBytes(TensorDType dtype) { return InfoOf(dtype).bytes; }
const char* TensorDTypeName(TensorDType dtype) { return InfoOf(dtype).name; }

std::string ShapeText(std::span<const uint64_t> shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += fmt::format("{}{}", i ? ", " : "", shape[i]);
  return out + "]";
}

StatusOr<std::vector<TensorView>> ParseSafetensors(std::span<const std::byte> file,
                                                   const std::string& file_name) {
  uint64_t length = 0;
  if (file.size() < kLengthBytes) {
    return Error(StatusCode::kInvalidArgument, "{}: {} bytes are too few for a safetensors file",
                 file_name, file.size());
  }
  for (size_t i = 0; i < kLengthBytes; ++i) length |= std::to_integer<uint64_t>(file[i]) << (8 * i);
  if (length > kMaxHeaderBytes || length > file.size() - kLengthBytes) {
    return Error(StatusCode::kInvalidArgument,
                 "{}: a header of {} bytes does not fit a file of {} bytes (or is past 100 MiB)",
                 file_name, length, file.size());
  }
  const std::span<const std::byte> header = file.subspan(kLengthBytes, length);
  const std::span<const std::byte> data = file.subspan(kLengthBytes + length);
  const char* text = reinterpret_cast<const char*>(header.data());
  HeaderEvents events;
  if (!nlohmann::json::sax_parse(text, text + header.size(), &events)) {
    return Error(StatusCode::kInvalidArgument, "{}: header: {}", file_name, events.error());
  }
  std::vector<TensorView> tensors;
  for (const Entry& entry : events.entries()) {
    PASSBAND_ASSIGN_OR_RETURN(TensorView tensor, CheckEntry(entry, data, file_name));
    tensors.push_back(std::move(tensor));
  }
  PASSBAND_RETURN_IF_ERROR(CheckTiling(tensors, data, file_name));
  return tensors;
}

}  // namespace passband
