#include "kvstore/layer.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

namespace passband {
namespace {

uint64_t BlocksFor(uint64_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

}  // namespace

StatusOr<Layer> Layer::Create(const KvShape& shape, uint32_t number,
                              std::shared_ptr<TenantAccount> account, std::vector<BlockRef> blocks,
                              uint64_t tokens, OverQuota over) {
  PASSBAND_RETURN_IF_ERROR(account->Hold(blocks, over));
  return Layer(shape, number, std::move(account), std::move(blocks), tokens);
}

Layer::~Layer() {
  if (account_ != nullptr) account_->Drop(blocks_);
}

void Layer::LeaveAccount() {
  account_->Drop(blocks_);
  account_.reset();
}

Layer::Layer(const KvShape& shape, uint32_t number, std::shared_ptr<TenantAccount> account,
             std::vector<BlockRef> blocks, uint64_t tokens)
    : shape_(shape),
      number_(number),
      plane_heads_(shape.kv_heads / shape.planes()),
      account_(std::move(account)),
      blocks_(std::move(blocks)),
      published_(tokens),
      reserved_(tokens),
      writable_from_(blocks_.size() * kBlockTokens) {
  PASSBAND_CHECK(blocks_.size() == BlocksFor(tokens));
}

StatusOr<Layer::Ticket> Layer::Reserve(uint64_t first, uint32_t count, BlockPool& pool,
                                       SequenceId sequence, MissingBlocks& missing) {
  if (first < reserved_) {
    return Error(StatusCode::kAlreadyExists, "tokens from {} are there up to {}", first, reserved_);
  }
  if (first > reserved_) {
    return Error(StatusCode::kFailedPrecondition, "a gap: tokens from {} would follow {}", first,
                 reserved_);
  }
  if (first % kBlockTokens == 0) {
    // Nobody else is to lose memory for what the tenant may not have.
    PASSBAND_RETURN_IF_ERROR(account_->CheckRoom(shape_.block_bytes()));
    PASSBAND_ASSIGN_OR_RETURN(BlockRef block, AllocateBlock(pool));
    PASSBAND_RETURN_IF_ERROR(account_->Hold({&block, 1}));
    blocks_.push_back(std::move(block));
  } else if (!MayWriteInPlace(first)) {
    PASSBAND_ASSIGN_OR_RETURN(const bool copied, CopyLastBlock(first, pool, sequence, missing));
    if (!copied) return Ticket{};
  }
  reserved_ = first + count;
  writable_from_ = reserved_;
  pending_.push_back({.number = next_number_, .first = first, .count = count, .committed = false});
  return Ticket{.number = next_number_++, .first = first, .count = count, .block = blocks_.back()};
}

StatusOr<BlockRef> Layer::AllocateBlock(BlockPool& pool) const {
  return pool.Allocate(shape_.block_bytes(), shape_.planes(), account_->ram_slot());
}

StatusOr<bool> Layer::CopyLastBlock(uint64_t end, BlockPool& pool, SequenceId sequence,
                                    MissingBlocks& missing) {
  const BlockRef& last = blocks_.back();
  PlaneSet planes = 0;
  const bool resident = last->TryPin(planes);
  const PlaneSet lacking = last->all_planes() & ~planes;
  if (!resident || lacking != 0) {
    if (resident) Pin dropped(last.get());
    missing.Add(last, lacking, sequence, number_, end / kBlockTokens * kBlockTokens);
    return false;
  }
  const Pin pin(last.get());
  PASSBAND_ASSIGN_OR_RETURN(BlockRef block, AllocateBlock(pool));
  PASSBAND_RETURN_IF_ERROR(account_->Replace(*last.get(), *block.get()));
  CopyHeldRows(end, *block.get());
  blocks_.back() = std::move(block);
  return true;
}

Status Layer::Commit(const Ticket& ticket) {
  const auto found = Find(ticket);
  if (found == pending_.end()) {
    return Error(StatusCode::kAborted, "rows [{}, {}): an earlier append failed, or a truncation",
                 ticket.first, ticket.first + ticket.count);
  }
  // The block was replaced by a copy while these rows were being written.
  const BlockRef& block = blocks_[ticket.first / kBlockTokens];
  if (block != ticket.block) {
    CopyRows(ticket.first, ticket.first + ticket.count, *ticket.block.get(), *block.get());
  }
  found->committed = true;
  const uint64_t before = published_;
  while (!pending_.empty() && pending_.front().committed) {
    published_ += pending_.front().count;
    pending_.pop_front();
  }
  FreezeWhole(before);
  return OkStatus();
}

void Layer::FreezeWhole(uint64_t published_before) {
  for (uint64_t i = published_before / kBlockTokens; i < published_ / kBlockTokens; ++i) {
    blocks_[i]->Freeze();
  }
}

void Layer::Abort(const Ticket& ticket, std::vector<BlockRef>& released) {
  const auto found = Find(ticket);
  if (found == pending_.end()) return;
  pending_.erase(found, pending_.end());
  Shrink(ticket.first, released);
}

void Layer::Truncate(uint64_t tokens, std::vector<BlockRef>& released) {
  PASSBAND_CHECK(tokens <= published_);
  pending_.clear();
  published_ = tokens;
  Shrink(tokens, released);
}

Status Layer::Resolve(uint32_t kv_head, std::span<const uint32_t> tokens, SequenceId sequence,
                      Seen& seen, PinnedRows& out, MissingBlocks& missing) const {
  const uint64_t published = published_;
  const uint64_t row_bytes = shape_.row_bytes;
  const uint64_t head_offset = uint64_t{kv_head} * kBlockTokens * row_bytes;
  const uint32_t plane = kv_head / plane_heads_;
  const BlockRef* const blocks = blocks_.data();
  uint64_t* const pinned = seen.pinned.data();
  const size_t start = out.rows_.size();
  out.rows_.resize(start + tokens.size());
  const std::byte** row = out.rows_.data() + start;
  const uint32_t tick = blocks_.empty() ? 0 : blocks_.front()->home().tick();
  for (const uint32_t token : tokens) {
    if (token >= published) {
      return Error(StatusCode::kOutOfRange, "token {} of {}", token, published);
    }
    const uint32_t index = token / kBlockTokens;
    const uint64_t bit = uint64_t{1} << (index % 64);
    Block* const block = blocks[index].get();
    // Heads of one layer often ask for the same blocks: one pin serves them all.
    if ((pinned[index / 64] & bit) == 0) {
      if (block->TryPinWhole()) [[likely]] {
        out.pins_.emplace_back(block);
        block->Touch(tick);
        pinned[index / 64] |= bit;
      } else if (!PinPlane(index, plane, sequence, seen, out, missing)) {
        ++row;
        continue;
      }
    }
    *row++ = block->data() + head_offset + token % kBlockTokens * row_bytes;
  }
  return OkStatus();
}

// Of a block that is not whole, or was not.
bool Layer::PinPlane(uint64_t index, uint32_t plane, SequenceId sequence, Seen& seen,
                     PinnedRows& out, MissingBlocks& missing) const {
  Block* const block = blocks_[index].get();
  const uint64_t bit = uint64_t{1} << (index % 64);
  PlaneSet planes = 0;
  if ((seen.partial[index / 64] & bit) != 0) {
    planes = block->loaded();
  } else if (block->TryPin(planes)) {
    out.pins_.emplace_back(block);
    block->Touch(block->home().tick());
    seen.partial[index / 64] |= bit;
  }
  const PlaneSet wanted = PlaneSet{1} << plane;
  if ((planes & wanted) != 0) return true;
  missing.Add(blocks_[index], wanted, sequence, number_, index * kBlockTokens);
  return false;
}

void Layer::ResolveBlocks(uint64_t first, uint64_t count, SequenceId sequence,
                          const WantedBlock& wanted, PinnedBlocks& out,
                          MissingBlocks& missing) const {
  PASSBAND_CHECK(first <= published_ && count <= published_ - first);
  if (count == 0) return;
  const uint64_t begin = first / kBlockTokens;
  for (uint64_t i = begin; i < BlocksFor(first + count); ++i) {
    Block* const block = blocks_[i].get();
    if (!wanted(i - begin, *block)) {
      out.blocks_.push_back(nullptr);
      continue;
    }
    PlaneSet planes = 0;
    if (block->TryPin(planes)) {
      out.pins_.emplace_back(block);
      block->Touch(block->home().tick());
    }
    out.blocks_.push_back(block);
    const PlaneSet lacking = block->all_planes() & ~planes;
    if (lacking != 0) missing.Add(blocks_[i], lacking, sequence, number_, i * kBlockTokens);
  }
}

void Layer::ResolveRange(uint64_t first, uint64_t count, SequenceId sequence, PinnedRows& out,
                         MissingBlocks& missing) const {
  PASSBAND_CHECK(first <= published_ && count <= published_ - first);
  if (count == 0) return;
  for (uint64_t i = first / kBlockTokens; i < BlocksFor(first + count); ++i) {
    Block* const block = blocks_[i].get();
    PlaneSet planes = 0;
    if (block->TryPin(planes)) {
      out.pins_.emplace_back(block);
      block->Touch(block->home().tick());
    }
    const PlaneSet lacking = block->all_planes() & ~planes;
    if (lacking != 0) missing.Add(blocks_[i], lacking, sequence, number_, i * kBlockTokens);
  }
  if (!missing.empty()) return;
  out.rows_.reserve(out.rows_.size() + count * shape_.kv_heads);
  for (uint64_t head = 0; head < shape_.kv_heads; ++head) {
    for (uint64_t token = first; token < first + count; ++token) {
      const uint64_t row = head * kBlockTokens + token % kBlockTokens;
      out.rows_.push_back(blocks_[token / kBlockTokens]->data() + row * shape_.row_bytes);
    }
  }
}

std::deque<Layer::Pending>::iterator Layer::Find(const Ticket& ticket) {
  const auto found = std::lower_bound(
      pending_.begin(), pending_.end(), ticket.number,
      [](const Pending& pending, uint64_t number) { return pending.number < number; });
  return found != pending_.end() && found->number == ticket.number ? found : pending_.end();
}

bool Layer::MayWriteInPlace(uint64_t first) const {
  return first >= writable_from_ || blocks_.back()->TakeForWriting();
}

// Rows of tickets still open are left out: they are being written, and Commit
// moves them.
void Layer::CopyHeldRows(uint64_t end, Block& to) const {
  const Block& from = *blocks_.back().get();
  const uint64_t start = end / kBlockTokens * kBlockTokens;
  CopyRows(start, std::clamp(published_, start, end), from, to);
  for (const Pending& pending : pending_) {
    if (!pending.committed || pending.first < start) continue;
    CopyRows(pending.first, pending.first + pending.count, from, to);
  }
}

void Layer::CopyRows(uint64_t first, uint64_t end, const Block& from, Block& to) const {
  const uint64_t row_bytes = shape_.row_bytes;
  for (uint64_t head = 0; head < shape_.kv_heads; ++head) {
    const uint64_t at = (head * kBlockTokens + first % kBlockTokens) * row_bytes;
    std::memcpy(to.data() + at, from.data() + at, (end - first) * row_bytes);
  }
}

void Layer::Shrink(uint64_t reserved, std::vector<BlockRef>& released) {
  reserved_ = reserved;
  const auto keep = blocks_.begin() + static_cast<ptrdiff_t>(BlocksFor(reserved));
  account_->Drop({keep, blocks_.end()});
  released.insert(released.end(), std::make_move_iterator(keep),
                  std::make_move_iterator(blocks_.end()));
  blocks_.erase(keep, blocks_.end());
}

}  // namespace passband
