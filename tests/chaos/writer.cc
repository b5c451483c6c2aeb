#include "tests/chaos/writer.h"

#include <algorithm>
#include <cstdio>
#include <set>

namespace passband::chaos {
namespace {

// A call on a sequence waits for the appends made before it.
constexpr auto kAfterAppends = kFlushTimeout + kDataTimeout + kControlTimeout;
constexpr auto kAppendTime = kDataTimeout + kRetryBudget;

}  // namespace

Status Writer::TakeOver() {
  for (size_t i = 0; i < kSlotsOfWriter; ++i) {
    const auto view = SlotAt(i).Look();
    // Its predecessor died while changing it.
    if (!view.has_value()) {
      SlotAt(i).Free();
    } else if (view->state != SlotState::kFree && view->tokens > 0) {
      PASSBAND_RETURN_IF_ERROR(JudgeLeft(SlotAt(i), *view));
    } else {
      SlotAt(i).Free();
    }
  }
  return CloseStrays();
}

// A sequence of an earlier session: what is sealed must be there, unless its server is not;
// what is not must not outlive its server.
Status Writer::JudgeLeft(Slot& slot, const SlotView& view) {
  const uint64_t run = board_.run;
  const bool restarted = view.run != run;
  const bool sealed = view.state == SlotState::kSealed;
  const bool must_be = sealed && (options_.durable || !restarted);
  const Status status = must_be ? reader_.ReadAll(slot, view) : reader_.FetchSome(slot, view);
  if (status.ok() && must_be) {
    if (restarted) ++client_.record().kept;
    SlotView kept = view;
    kept.run = run;
    slot.Publish(kept);
    return OkStatus();
  }
  const bool may_be = view.state == SlotState::kSealing && options_.durable;
  if (status.ok() && restarted && !may_be && run == board_.run) {
    if (++client_.record().resurrected <= 5) {
      std::fprintf(stderr, "worker %u: RESURRECTED: sequence %lu of run %lu answers in run %lu\n",
                   options_.index, static_cast<unsigned long>(view.sequence),
                   static_cast<unsigned long>(view.run), static_cast<unsigned long>(run));
    }
  }
  const bool gone = status.code() == StatusCode::kNotFound;
  if (gone && restarted) ++client_.record().gone;
  if (status.ok() || gone) {
    slot.Free();
    return OkStatus();
  }
  return status;
}

// What is there and not on the board: a call's outcome was never learnt.
Status Writer::CloseStrays() {
  std::set<uint64_t> mine;
  for (size_t i = 0; i < kSlotsOfWriter; ++i) {
    const SlotView view = ViewOf(i);
    if (view.state != SlotState::kFree) mine.insert(view.sequence);
  }
  PASSBAND_ASSIGN_OR_RETURN(
      const auto all, client_.Control([](RemoteService& s) { return s.List(SequenceId(), 0); }));
  for (const SequenceStat& stat : all) {
    if (mine.contains(stat.id.value())) continue;
    const Status closed = client_.Control([&](RemoteService& s) { return s.Close(stat.id); });
    if (!closed.ok() && closed.code() != StatusCode::kNotFound) return closed;
  }
  return OkStatus();
}

Status Writer::Step() {
  if (strays_) {
    PASSBAND_RETURN_IF_ERROR(CloseStrays());
    strays_ = false;
  }
  const size_t index = random_() % kSlotsOfWriter;
  const Status status = Step(index);
  switch (status.code()) {
    case StatusCode::kOk:
      return status;
    case StatusCode::kResourceExhausted:
      return MakeRoom();
    case StatusCode::kNotFound:
      // The session that held it is over, and this is the next one.
      if (ViewOf(index).state != SlotState::kSealed) SlotAt(index).Free();
      return status;
    default:
      strays_ = true;
      return status;
  }
}

Status Writer::Step(size_t index) {
  const SlotView view = ViewOf(index);
  const uint64_t dice = random_() % 100;
  switch (view.state) {
    case SlotState::kFree:
      return dice < 65 ? OpenNew(index) : ForkInto(index);
    case SlotState::kOpen:
      if (board_.pressure != 0 && view.tokens < kMaxTokens) return Grow(index, view, 384);
      if (dice < 50 && view.tokens < kMaxTokens) return Grow(index, view, 1 + random_() % 384);
      if (dice < 62) return Truncate(index, view);
      if (dice < 74) return Seal(index, view);
      if (dice < 80) return Close(index, view);
      return reader_.ReadAll(SlotAt(index), view);
    case SlotState::kSealing:
      return Close(index, view);
    case SlotState::kSealed:
      return dice < 25 && board_.pressure == 0 ? Close(index, view)
                                               : reader_.ReadAll(SlotAt(index), view);
  }
  return OkStatus();
}

Status Writer::OpenNew(size_t index) {
  SlotView view{.state = SlotState::kOpen, .run = board_.run};
  const uint64_t tokens = 64 + random_() % 1024;
  view.content = {random_() % kKeys, random_() % tokens, random_() % kKeys};
  OpenParams params{.model = ChaosModel().fingerprint.text(), .token_ids = {}};
  for (uint64_t token = 0; token < tokens; ++token) {
    params.token_ids.push_back(view.content.TokenId(token));
  }
  params.share_prefix = random_() % 4 != 0;
  PASSBAND_ASSIGN_OR_RETURN(const OpenedSequence opened,
                            client_.Control([&](RemoteService& s) { return s.Open(params); }));
  view.sequence = opened.id.value();
  view.tokens = opened.matched_tokens;
  SlotAt(index).Publish(view);
  // The prompt's ids are known already.
  return Grow(index, ViewOf(index), tokens - std::min(tokens, view.tokens));
}

Status Writer::ForkInto(size_t index) {
  const size_t from = random_() % kSlotsOfWriter;
  const SlotView source = ViewOf(from);
  if (source.state == SlotState::kFree || source.tokens < 2) return OpenNew(index);
  const uint64_t tokens = 1 + random_() % (source.tokens - 1);
  SlotView view{.state = SlotState::kOpen, .run = board_.run};
  view.content = {source.content.key, std::min(source.content.branch, tokens),
                  source.content.after};
  if (view.content.branch == tokens) view.content.after = random_() % kKeys;
  PASSBAND_ASSIGN_OR_RETURN(const SequenceId forked,
                            client_.Do(Operation::kControl, kAfterAppends, [&](RemoteService& s) {
                              return s.Fork(SequenceId(source.sequence), tokens);
                            }));
  view.sequence = forked.value();
  view.tokens = tokens;
  SlotAt(index).Publish(view);
  return Grow(index, ViewOf(index), random_() % 256);
}

Status Writer::Grow(size_t index, SlotView view, uint64_t tokens) {
  tokens = std::min(tokens, kMaxTokens - std::min<uint64_t>(view.tokens, kMaxTokens));
  if (tokens == 0) return OkStatus();
  if (const Status grown = GrowLayers(view, tokens); !grown.ok()) {
    Repair(index, view);
    return grown;
  }
  client_.record().appended_rows += tokens * kLayers * kKvHeads;
  view.tokens += tokens;
  SlotAt(index).Publish(view);
  return NameTokens(view);
}

Status Writer::GrowLayers(const SlotView& view, uint64_t tokens) {
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    PASSBAND_RETURN_IF_ERROR(AppendLayer(view, layer, view.tokens, tokens));
  }
  return client_.Do(Operation::kFlush, kFlushTimeout,
                    [&](RemoteService& s) { return s.Flush(SequenceId(view.sequence)); });
}

// Some rows of some layers may be there: back to what is published, or away with it.
void Writer::Repair(size_t index, const SlotView& view) {
  if (view.tokens > 0) {
    const Status back = client_.Do(Operation::kControl, kAfterAppends, [&](RemoteService& s) {
      return s.Truncate(SequenceId(view.sequence), view.tokens);
    });
    if (back.ok()) {
      // Rows that were given up and land later must be seen to be others.
      SlotView again = view;
      again.content.branch = std::min(view.content.branch, view.tokens);
      if (again.content.branch == view.tokens) again.content.after = random_() % kKeys;
      SlotAt(index).Publish(again);
      return;
    }
  }
  SlotAt(index).Free();
  strays_ = true;
}

Status Writer::AppendLayer(const SlotView& view, uint32_t layer, uint64_t first, uint64_t tokens) {
  std::vector<std::byte> rows;
  for (uint64_t at = first; at < first + tokens;) {
    const uint64_t in_block = kBlockTokens - at % kBlockTokens;
    uint64_t count = std::min(in_block, first + tokens - at);
    if (random_() % 4 == 0) count = 1 + random_() % count;
    rows.resize(count * kKvHeads * kRowBytes);
    for (uint32_t head = 0; head < kKvHeads; ++head) {
      for (uint64_t i = 0; i < count; ++i) {
        WriteRow(view.content.KeyOf(at + i), layer, head, at + i,
                 std::span(rows).subspan((head * count + i) * kRowBytes, kRowBytes));
      }
    }
    PASSBAND_RETURN_IF_ERROR(client_.Do(Operation::kAppend, kAppendTime, [&](RemoteService& s) {
      return s.Append({SequenceId(view.sequence), layer, at, static_cast<uint32_t>(count), rows});
    }));
    at += count;
  }
  return OkStatus();
}

// So that others find the blocks by their prefix.
Status Writer::NameTokens(const SlotView& view) {
  PASSBAND_ASSIGN_OR_RETURN(const SequenceStat stat, client_.Control([&](RemoteService& s) {
    return s.Stat(SequenceId(view.sequence));
  }));
  if (stat.known_tokens >= view.tokens) return OkStatus();
  std::vector<uint32_t> ids;
  for (uint64_t token = stat.known_tokens; token < view.tokens; ++token) {
    ids.push_back(view.content.TokenId(token));
  }
  return client_.Control([&](RemoteService& s) {
    return s.Extend(SequenceId(view.sequence), stat.known_tokens, ids);
  });
}

Status Writer::Truncate(size_t index, SlotView view) {
  if (view.tokens < 2) return OkStatus();
  const uint64_t tokens = 1 + random_() % (view.tokens - 1);
  // While it changes, readers must see that it does.
  SlotAt(index).Free();
  PASSBAND_RETURN_IF_ERROR(client_.Do(Operation::kControl, kAfterAppends, [&](RemoteService& s) {
    return s.Truncate(SequenceId(view.sequence), tokens);
  }));
  view.content.branch = std::min(view.content.branch, tokens);
  if (view.content.branch == tokens) view.content.after = random_() % kKeys;
  view.tokens = tokens;
  SlotAt(index).Publish(view);
  return Grow(index, ViewOf(index), random_() % 256);
}

Status Writer::Seal(size_t index, SlotView view) {
  view.state = SlotState::kSealing;
  SlotAt(index).Publish(view);
  PASSBAND_RETURN_IF_ERROR(client_.Do(Operation::kControl, kAfterAppends, [&](RemoteService& s) {
    return s.Seal(SequenceId(view.sequence));
  }));
  view.state = SlotState::kSealed;
  ++client_.record().seals;
  SlotAt(index).Publish(view);
  return OkStatus();
}

Status Writer::Close(size_t index, const SlotView& view) {
  SlotAt(index).Free();
  return client_.Control([&](RemoteService& s) { return s.Close(SequenceId(view.sequence)); });
}

// The service is full: gives the longest sequence back.
Status Writer::MakeRoom() {
  // Others are to find no room, too.
  if (board_.pressure != 0 && random_() % 8 != 0) return OkStatus();
  size_t longest = 0;
  for (size_t i = 1; i < kSlotsOfWriter; ++i) {
    if (ViewOf(i).tokens > ViewOf(longest).tokens) longest = i;
  }
  const SlotView view = ViewOf(longest);
  return view.state == SlotState::kFree ? OkStatus() : Close(longest, view);
}

}  // namespace passband::chaos
