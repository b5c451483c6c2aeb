#include "llama/tokenizer.h"

#include <charconv>

namespace passband {
namespace {

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::string_view Trim(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

StatusOr<uint32_t> ParseId(std::string_view entry, uint32_t vocab_size) {
  uint32_t id = 0;
  const auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), id);
  if (error != std::errc() || end != entry.data() + entry.size() || id >= vocab_size) {
    return Error(StatusCode::kInvalidArgument,
                 "'{}' is not a token id; ids are whole numbers below {}",
                 std::string(entry.substr(0, 40)), vocab_size);
  }
  return id;
}

// Cuts the next entry off `text`; entries end at `separator` or the end.
std::string_view TakeEntry(std::string_view& text, bool commas) {
  size_t end = 0;
  while (end < text.size() && (commas ? text[end] != ',' : !IsSpace(text[end]))) ++end;
  const std::string_view entry = text.substr(0, end);
  text.remove_prefix(std::min(text.size(), end + (commas ? 1 : 0)));
  return Trim(entry);
}

}  // namespace

std::vector<uint32_t> EncodeBytes(std::string_view text) {
  std::vector<uint32_t> out;
  out.reserve(text.size());
  for (const char c : text) out.push_back(static_cast<unsigned char>(c));
  return out;
}

std::string DecodeBytes(std::span<const uint32_t> tokens) {
  std::string out;
  out.reserve(tokens.size());
  for (const uint32_t token : tokens) {
    out += token < kByteVocabulary ? static_cast<char>(token) : '?';
  }
  return out;
}

StatusOr<std::vector<uint32_t>> ParseTokenIds(std::string_view text, uint32_t vocab_size) {
  text = Trim(text);
  const bool json = !text.empty() && text.front() == '[';
  if (json) {
    if (text.size() < 2 || text.back() != ']') {
      return Error(StatusCode::kInvalidArgument, "a list of token ids must end in ']'");
    }
    text = Trim(text.substr(1, text.size() - 2));
  }
  std::vector<uint32_t> out;
  bool more = !text.empty();
  while (more) {
    // After a comma there must be another entry.
    more = json && text.find(',') != std::string_view::npos;
    PASSBAND_ASSIGN_OR_RETURN(const uint32_t id, ParseId(TakeEntry(text, json), vocab_size));
    out.push_back(id);
    text = Trim(text);
    more = more || (!json && !text.empty());
  }
  return out;
}

}  // namespace passband
