// ReferenceSequence: what a sequence ought to hold, kept the simple way: every
// row its own vector of bytes, nothing shared.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "kvstore/types.h"

namespace passband {

using Bytes = std::vector<std::byte>;

struct ReferenceSlot {
  uint64_t number = 0;
  uint64_t first = 0;
  uint32_t count = 0;
  bool committed = false;
  Bytes rows;  // [kv_head][count]
};

struct ReferenceLayer {
  std::vector<Bytes> tokens;  // [token] -> [kv_head], the visible ones
  std::deque<ReferenceSlot> slots;

  uint64_t reserved() const {
    return slots.empty() ? tokens.size() : slots.back().first + slots.back().count;
  }
  ReferenceSlot* Find(uint64_t number) {
    for (ReferenceSlot& slot : slots) {
      if (slot.number == number) return &slot;
    }
    return nullptr;
  }
  void Abort(uint64_t number) {
    if (Find(number) == nullptr) return;
    while (slots.back().number != number) slots.pop_back();
    slots.pop_back();
  }
  void Publish(const KvShape& shape) {
    while (!slots.empty() && slots.front().committed) {
      const ReferenceSlot& slot = slots.front();
      for (uint32_t i = 0; i < slot.count; ++i) {
        Bytes token;
        for (uint32_t head = 0; head < shape.kv_heads; ++head) {
          const auto at = slot.rows.begin() + (head * slot.count + i) * shape.row_bytes;
          token.insert(token.end(), at, at + shape.row_bytes);
        }
        tokens.push_back(std::move(token));
      }
      slots.pop_front();
    }
  }
};

struct ReferenceSequence {
  SequenceId id;
  std::string tenant;
  ModelSpec model;
  OwnerId owner;
  uint64_t max_tokens = 0;
  bool sealed = false;
  bool closed = false;
  std::vector<uint32_t> token_ids;
  std::vector<ReferenceLayer> layers;

  uint64_t committed() const {
    uint64_t least = layers.front().tokens.size();
    for (const auto& layer : layers) least = std::min<uint64_t>(least, layer.tokens.size());
    return least;
  }
  bool appending() const {
    return std::any_of(layers.begin(), layers.end(),
                       [](const auto& l) { return !l.slots.empty(); });
  }
  std::span<const std::byte> Row(uint32_t layer, uint32_t head, uint64_t token) const {
    const KvShape& shape = model.shape;
    return std::span(layers[layer].tokens[token]).subspan(head * shape.row_bytes, shape.row_bytes);
  }
  void Truncate(uint64_t tokens) {
    for (auto& layer : layers) {
      layer.slots.clear();
      layer.tokens.resize(tokens);
    }
    token_ids.resize(std::min<uint64_t>(token_ids.size(), tokens));
  }
  // A checksum of the rows of one 64-token column in all layers.
  uint64_t ColumnContent(uint64_t column) const {
    uint64_t sum = 0;
    for (const auto& layer : layers) {
      for (uint64_t t = column * kBlockTokens; t < (column + 1) * kBlockTokens; ++t) {
        sum = sum * 0x9E3779B97F4A7C15ull + Checksum(layer.tokens[t]);
      }
    }
    return sum;
  }
  // Names the tokens [0, 64 * (column + 1)) of this tenant and model.
  uint64_t ColumnName(uint64_t column) const {
    const std::string space = tenant + "/" + model.fingerprint;
    const auto ids = std::span(token_ids).first((column + 1) * kBlockTokens);
    return Checksum(std::as_bytes(ids)) ^ Checksum(std::as_bytes(std::span(space)));
  }
  uint64_t complete_columns() const {
    return std::min<uint64_t>(committed(), token_ids.size()) / kBlockTokens;
  }
};

}  // namespace passband
