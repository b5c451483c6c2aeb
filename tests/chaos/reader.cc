#include "tests/chaos/reader.h"

#include <algorithm>
#include <cstdio>

namespace passband::chaos {

Status Reader::Step(uint32_t writer) {
  const uint64_t dice = random_() % 100;
  if (dice < 3) return Stranger(writer);
  if (dice < 65) return Fetch(writer);
  SlotView view;
  const Slot* slot = AnySlot(writer, view);
  if (slot == nullptr) return OkStatus();
  if (dice < 80) return Slices(*slot, view);
  const uint64_t first = random_() % view.tokens;
  const uint64_t count = 1 + random_() % std::min<uint64_t>(view.tokens - first, 512);
  return Read(*slot, view, static_cast<uint32_t>(random_() % kLayers), first, count);
}

const Slot* Reader::AnySlot(uint32_t writer, SlotView& view) {
  const uint64_t start = random_();
  for (uint32_t i = 0; i < kSlotsOfWriter; ++i) {
    const Slot& slot = board_.slots[writer][(start + i) % kSlotsOfWriter];
    const auto seen = slot.Look();
    if (!seen.has_value() || seen->state == SlotState::kFree || seen->tokens == 0) continue;
    // What an earlier run of the server held is its owner's to judge.
    if (seen->run != board_.run && !(options_.durable && seen->state == SlotState::kSealed)) {
      continue;
    }
    view = *seen;
    return &slot;
  }
  return nullptr;
}

std::vector<Reader::Wanted> Reader::Choose(uint32_t writer, size_t groups, size_t rows) {
  std::vector<Wanted> out;
  for (size_t g = 0; g < groups; ++g) {
    Wanted wanted{};
    wanted.slot = AnySlot(writer, wanted.view);
    if (wanted.slot == nullptr) break;
    wanted.layer = static_cast<uint32_t>(random_() % kLayers);
    wanted.head = static_cast<uint32_t>(random_() % kKvHeads);
    wanted.tokens.resize(rows);
    for (uint32_t& token : wanted.tokens) {
      token = static_cast<uint32_t>(random_() % wanted.view.tokens);
    }
    out.push_back(std::move(wanted));
  }
  return out;
}

Status Reader::Fetch(uint32_t writer) {
  const size_t groups = 1 + random_() % 8;
  return FetchThese(Choose(writer, groups, 1 + random_() % 256));
}

Status Reader::FetchSome(const Slot& slot, const SlotView& view) {
  Wanted wanted{&slot,
                view,
                static_cast<uint32_t>(random_() % kLayers),
                static_cast<uint32_t>(random_() % kKvHeads),
                {}};
  for (int i = 0; i < 32; ++i)
    wanted.tokens.push_back(static_cast<uint32_t>(random_() % view.tokens));
  return FetchThese({wanted});
}

Status Reader::FetchThese(const std::vector<Wanted>& wanted) {
  if (wanted.empty()) return OkStatus();
  std::vector<FetchGroup> groups;
  for (const Wanted& want : wanted) {
    groups.push_back({SequenceId(want.view.sequence), want.layer, want.head, want.tokens});
  }
  std::unique_ptr<PendingRows> pending;
  const auto got = client_.Do(Operation::kFetch, kDataTimeout, [&](RemoteService& service) {
    pending = service.StartFetch({groups, kRowBytes, {}});
    return pending->Wait();
  });
  if (!got.ok()) {
    if (wanted.size() == 1) CheckGone(*wanted[0].slot, wanted[0].view, got.status());
    return got.status();
  }
  const std::byte* at = got->data();
  for (const Wanted& want : wanted) {
    for (const uint32_t token : want.tokens) {
      CheckRow(*want.slot, want.view, want.layer, want.head, token, {at, kRowBytes});
      at += kRowBytes;
    }
    client_.record().fetched_rows += want.tokens.size();
  }
  return OkStatus();
}

Status Reader::Read(const Slot& slot, const SlotView& view, uint32_t layer, uint64_t first,
                    uint64_t count) {
  std::unique_ptr<PendingRows> pending;
  const auto got = client_.Do(Operation::kRead, kDataTimeout, [&](RemoteService& service) {
    pending = service.StartRead({SequenceId(view.sequence), layer, first, count});
    return pending->Wait();
  });
  if (!got.ok()) {
    CheckGone(slot, view, got.status());
    return got.status();
  }
  for (uint32_t head = 0; head < kKvHeads; ++head) {
    for (uint64_t i = 0; i < count; ++i) {
      CheckRow(slot, view, layer, head, first + i,
               got->subspan((head * count + i) * kRowBytes, kRowBytes));
    }
  }
  client_.record().read_rows += kKvHeads * count;
  return OkStatus();
}

Status Reader::ReadAll(const Slot& slot, const SlotView& view) {
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    for (uint64_t first = 0; first < view.tokens; first += 512) {
      PASSBAND_RETURN_IF_ERROR(
          Read(slot, view, layer, first, std::min<uint64_t>(512, view.tokens - first)));
    }
  }
  return OkStatus();
}

Status Reader::Slices(const Slot& slot, const SlotView& view) {
  const auto layer = static_cast<uint32_t>(random_() % kLayers);
  const uint64_t first = random_() % view.tokens;
  const uint64_t count = 1 + random_() % std::min<uint64_t>(view.tokens - first, 256);
  std::unique_ptr<PendingRows> pending;
  // The profile may have to be registered first.
  const auto got =
      client_.Do(Operation::kSlices, kDataTimeout + kControlTimeout, [&](RemoteService& service) {
        pending = service.StartSlices({SequenceId(view.sequence), layer, first, count}, profile_);
        return pending->Wait();
      });
  if (!got.ok()) {
    CheckGone(slot, view, got.status());
    return got.status();
  }
  const size_t bytes = profile_->slice_bytes();
  for (uint32_t head = 0; head < kKvHeads; ++head) {
    for (uint64_t i = 0; i < count; ++i) {
      CheckSlice(slot, view, layer, head, first + i,
                 got->subspan((head * count + i) * bytes, bytes));
    }
  }
  client_.record().slices += kKvHeads * count;
  return OkStatus();
}

// Sequences of another tenant, and tokens past the end.
Status Reader::Stranger(uint32_t writer) {
  const auto other = static_cast<uint32_t>(random_() % options_.writers);
  SlotView view;
  const Slot* slot = AnySlot(other, view);
  if (slot == nullptr) return OkStatus();
  const uint32_t far = kMaxTokens + 64;
  const std::array<uint32_t, 2> tokens = {0, far};
  const FetchGroup group{SequenceId(view.sequence), 0, 0,
                         std::span(tokens).subspan(other == writer ? 1 : 0, 1)};
  std::unique_ptr<PendingRows> pending;
  const auto got = client_.Do(Operation::kFetch, kDataTimeout, [&](RemoteService& service) {
    pending = service.StartFetch({{&group, 1}, kRowBytes, {}});
    return pending->Wait();
  });
  if (!got.ok()) return got.status();
  ++client_.record().wrong;
  std::fprintf(stderr, "worker %u: got a row of sequence %lu that it has no right to\n",
               options_.index, static_cast<unsigned long>(view.sequence));
  return OkStatus();
}

void Reader::CheckRow(const Slot& slot, const SlotView& view, uint32_t layer, uint32_t head,
                      uint64_t token, std::span<const std::byte> row) {
  if (IsRow(view.content.KeyOf(token), layer, head, token, row)) return;
  const bool still = slot.IsStill(view);
  if (!still && IsRowOfAnyKey(layer, head, token, row)) return;
  Wrong("row", view, layer, head, token, still);
}

void Reader::CheckSlice(const Slot& slot, const SlotView& view, uint32_t layer, uint32_t head,
                        uint64_t token, std::span<const std::byte> slice) {
  if (IsSlice(view.content.KeyOf(token), layer, head, token, slice)) return;
  const bool still = slot.IsStill(view);
  if (!still && IsSliceOfAnyKey(layer, head, token, slice)) return;
  Wrong("slice", view, layer, head, token, still);
}

void Reader::Wrong(const char* what, const SlotView& view, uint32_t layer, uint32_t head,
                   uint64_t token, bool still) {
  if (++client_.record().wrong > 5) return;
  std::fprintf(stderr,
               "worker %u: WRONG %s: sequence %lu of run %lu (now %lu), layer %u, head %u, token "
               "%lu of %lu, branch %lu, %s, %s\n",
               options_.index, what, static_cast<unsigned long>(view.sequence),
               static_cast<unsigned long>(view.run), static_cast<unsigned long>(board_.run), layer,
               head, static_cast<unsigned long>(token), static_cast<unsigned long>(view.tokens),
               static_cast<unsigned long>(view.content.branch),
               view.state == SlotState::kSealed ? "sealed" : "open",
               still ? "unchanged" : "changed meanwhile");
}

void Reader::CheckGone(const Slot& slot, const SlotView& view, const Status& status) {
  const StatusCode code = status.code();
  // Of what was sealed, and of anything on a disk that only refuses: no byte may be lost.
  const bool damaged = code == StatusCode::kDataLoss && slot.IsStill(view);
  if (!damaged && code != StatusCode::kNotFound && code != StatusCode::kOutOfRange) return;
  if (!damaged && (view.state != SlotState::kSealed || !slot.IsStill(view))) return;
  // The server that held it may be gone with it.
  if (!options_.durable && view.run != board_.run) return;
  if (++client_.record().lost > 5) return;
  std::fprintf(stderr, "worker %u: LOST a %s sequence: %s\n", options_.index,
               damaged ? "stored" : "sealed", status.ToString().c_str());
}

}  // namespace passband::chaos
