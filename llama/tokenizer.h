// Tokenizer: text to token ids and back, for models whose token is a byte.
// Models with another vocabulary are given token ids (ParseTokenIds).
//
// Threads  safe; pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace passband {

inline constexpr uint32_t kByteVocabulary = 256;

std::vector<uint32_t> EncodeBytes(std::string_view text);

// Ids past 255 become '?'.
std::string DecodeBytes(std::span<const uint32_t> tokens);

// Token ids as a JSON array "[1, 2, 3]" or separated by white space.
// kInvalidArgument names the first entry that is not an id below `vocab_size`.
StatusOr<std::vector<uint32_t>> ParseTokenIds(std::string_view text, uint32_t vocab_size);

}  // namespace passband
