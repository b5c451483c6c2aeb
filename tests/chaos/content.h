// Content: what a sequence of the chaos run must hold, without anybody keeping it.
//
// Every byte is a function of (content, layer, kv head, token): tokens below `branch` are
// those of `key`, the others those of `after`. Forking and truncating start a new branch.
// Token ids follow the same rule, so sequences that share a prefix share its bytes. Keys
// come from a small pool: prefixes meet, and a row can be found among all keys.
//
// Rows are bf16 numbers of middling size, so that slices can be cut from them.
//
// Units      tokens, bytes.
// Threads    plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include "profile/profile.h"
#include "sdk/kv_service.h"

namespace passband::chaos {

inline constexpr uint32_t kLayers = 4;
inline constexpr uint32_t kKvHeads = 4;
inline constexpr uint32_t kRowBytes = 256;
inline constexpr uint32_t kBlockTokens = 64;
inline constexpr uint64_t kTokenBytes = uint64_t{kLayers} * kKvHeads * kRowBytes;
inline constexpr uint32_t kMaxTokens = 2048;  // Of a sequence: 8 MiB.
inline constexpr uint64_t kKeys = 24;

struct Content {
  uint64_t key = 0;
  uint64_t branch = 0;
  uint64_t after = 0;

  uint64_t KeyOf(uint64_t token) const { return token < branch ? key : after; }
  uint32_t TokenId(uint64_t token) const;
};

ModelInfo ChaosModel();
std::shared_ptr<const Profile> ChaosProfile();

// `row`: kRowBytes.
void WriteRow(uint64_t key, uint32_t layer, uint32_t head, uint64_t token,
              std::span<std::byte> row);
bool IsRow(uint64_t key, uint32_t layer, uint32_t head, uint64_t token,
           std::span<const std::byte> row);
// Whether it is this place's row in any content.
bool IsRowOfAnyKey(uint32_t layer, uint32_t head, uint64_t token, std::span<const std::byte> row);
// The same for slices of ChaosProfile().
bool IsSlice(uint64_t key, uint32_t layer, uint32_t head, uint64_t token,
             std::span<const std::byte> slice);
bool IsSliceOfAnyKey(uint32_t layer, uint32_t head, uint64_t token,
                     std::span<const std::byte> slice);

}  // namespace passband::chaos
