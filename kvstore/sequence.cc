#include "kvstore/sequence.h"

#include <algorithm>
#include <utility>

namespace passband {
namespace {

// Row requests name tokens in 32 bits.
constexpr uint64_t kMaxTokens = uint64_t{1} << 32;

Status InLayer(const Status& status, SequenceId id, uint32_t layer) {
  if (status.ok()) return status;
  return Annotate(status, fmt::format("sequence {} layer {}", id, layer));
}

}  // namespace

Sequence::Sequence(Identity identity, SequenceContents contents, const Clock& clock, bool sealed)
    : identity_(std::move(identity)),
      life_(clock, identity_.ttl),
      sealed_(sealed),
      contents_(std::move(contents)) {}

StatusOr<Layer::Ticket> Sequence::BeginAppend(uint32_t layer, uint64_t first, uint32_t count,
                                              BlockPool& pool, MissingBlocks& missing) {
  life_.Touch();
  PASSBAND_RETURN_IF_ERROR(CheckLayer(layer));
  if (count == 0 || count > kBlockTokens || first % kBlockTokens + count > kBlockTokens) {
    return Error(StatusCode::kInvalidArgument,
                 "sequence {}: rows [{}, {} + {}) are not within one block of {}", id(), first,
                 first, count, kBlockTokens);
  }
  MutexLock lock(mutex_);
  PASSBAND_RETURN_IF_ERROR(CheckAppendable());
  Layer& rows = contents_.layers[layer];
  if (first == rows.reserved()) PASSBAND_RETURN_IF_ERROR(CheckLimit(first + count));
  StatusOr<Layer::Ticket> ticket = rows.Reserve(first, count, pool, id(), missing);
  if (!ticket.ok()) return InLayer(ticket.status(), id(), layer);
  return ticket;
}

Status Sequence::Commit(uint32_t layer, const Layer::Ticket& ticket,
                        std::vector<NamedColumn>& complete) {
  life_.Touch();
  MutexLock lock(mutex_);
  PASSBAND_RETURN_IF_ERROR(CheckOpen());
  PASSBAND_RETURN_IF_ERROR(InLayer(contents_.layers[layer].Commit(ticket), id(), layer));
  contents_.TakeComplete(complete);
  return OkStatus();
}

void Sequence::Abort(uint32_t layer, const Layer::Ticket& ticket) {
  std::vector<BlockRef> released;  // outlives the lock
  MutexLock lock(mutex_);
  if (!closed_) contents_.layers[layer].Abort(ticket, released);
}

Status Sequence::Resolve(std::span<const RowGroup> groups, PinnedRows& out,
                         MissingBlocks& missing) {
  life_.Touch();
  MutexLock lock(mutex_);
  PASSBAND_RETURN_IF_ERROR(CheckOpen());
  return ResolveLocked(groups, out, missing);
}

Status Sequence::ResolveLocked(std::span<const RowGroup> groups, PinnedRows& out,
                               MissingBlocks& missing) {
  const RowGroup* previous = nullptr;
  for (const RowGroup& group : groups) {
    PASSBAND_RETURN_IF_ERROR(CheckLayer(group.layer));
    if (group.kv_head >= identity_.shape.kv_heads) {
      return Error(StatusCode::kInvalidArgument, "sequence {}: kv head {} of {}", id(),
                   group.kv_head, identity_.shape.kv_heads);
    }
    const Layer& layer = contents_.layers[group.layer];
    if (previous == nullptr || previous->layer != group.layer) seen_.Reset(layer.blocks().size());
    previous = &group;
    const Status status = layer.Resolve(group.kv_head, group.tokens, id(), seen_, out, missing);
    if (!status.ok()) return InLayer(status, id(), group.layer);
  }
  return OkStatus();
}

Status Sequence::ResolveRange(uint32_t layer, uint64_t first, uint64_t count, PinnedRows& out,
                              MissingBlocks& missing) {
  life_.Touch();
  PASSBAND_RETURN_IF_ERROR(CheckLayer(layer));
  MutexLock lock(mutex_);
  PASSBAND_RETURN_IF_ERROR(CheckRange(layer, first, count));
  contents_.layers[layer].ResolveRange(first, count, id(), out, missing);
  return OkStatus();
}

Status Sequence::ResolveBlocks(uint32_t layer, uint64_t first, uint64_t count,
                               const WantedBlock& wanted, PinnedBlocks& out,
                               MissingBlocks& missing) {
  life_.Touch();
  PASSBAND_RETURN_IF_ERROR(CheckLayer(layer));
  MutexLock lock(mutex_);
  PASSBAND_RETURN_IF_ERROR(CheckRange(layer, first, count));
  contents_.layers[layer].ResolveBlocks(first, count, id(), wanted, out, missing);
  return OkStatus();
}

// Hashing happens between two holds of the lock; when another call changed the
// ids meanwhile, it is done again or found out of place.
Status Sequence::ExtendTokenIds(uint64_t first, std::span<const uint32_t> token_ids,
                                std::vector<NamedColumn>& complete) {
  life_.Touch();
  while (true) {
    uint64_t version = 0;
    PrefixDigest parent = identity_.root;
    std::vector<uint32_t> unnamed;  // ids of the last, unfinished block
    {
      MutexLock lock(mutex_);
      PASSBAND_RETURN_IF_ERROR(CheckExtension(first, token_ids.size()));
      version = ids_version_;
      if (!contents_.chain.empty()) parent = contents_.chain.back();
      const uint64_t named = contents_.chain.size() * kBlockTokens;
      unnamed.assign(contents_.token_ids.begin() + static_cast<ptrdiff_t>(named),
                     contents_.token_ids.end());
    }
    unnamed.insert(unnamed.end(), token_ids.begin(), token_ids.end());
    std::vector<PrefixDigest> chain;
    ExtendPrefixChain(parent, unnamed, chain);

    MutexLock lock(mutex_);
    PASSBAND_RETURN_IF_ERROR(CheckExtension(first, token_ids.size()));
    if (version != ids_version_) continue;
    ++ids_version_;
    contents_.token_ids.insert(contents_.token_ids.end(), token_ids.begin(), token_ids.end());
    contents_.chain.insert(contents_.chain.end(), chain.begin(), chain.end());
    contents_.TakeComplete(complete);
    return OkStatus();
  }
}

Status Sequence::Truncate(uint64_t tokens) {
  life_.Touch();
  std::vector<BlockRef> released;  // outlives the lock
  MutexLock lock(mutex_);
  PASSBAND_RETURN_IF_ERROR(CheckAppendable());
  if (tokens > contents_.Committed()) {
    return Error(StatusCode::kOutOfRange, "sequence {}: truncation to {} of {} tokens", id(),
                 tokens, contents_.Committed());
  }
  for (Layer& layer : contents_.layers) layer.Truncate(tokens, released);
  if (tokens < contents_.token_ids.size()) {
    ++ids_version_;
    contents_.token_ids.resize(tokens);
    contents_.chain.resize(tokens / kBlockTokens);
  }
  contents_.indexed = std::min(contents_.indexed, tokens / kBlockTokens);
  return OkStatus();
}

Status Sequence::Seal() {
  MutexLock lock(mutex_);
  PASSBAND_RETURN_IF_ERROR(CheckOpen());
  // Sealing what is sealed changes nothing, and is no use: a stop does it to all.
  if (!sealed_) life_.Touch();
  if (contents_.appending()) {
    return Error(StatusCode::kFailedPrecondition, "sequence {}: an append is under way", id());
  }
  sealed_ = true;
  return OkStatus();
}

StatusOr<SequenceContents> Sequence::Fork(uint64_t tokens) {
  life_.Touch();
  MutexLock lock(mutex_);
  PASSBAND_RETURN_IF_ERROR(CheckOpen());
  if (tokens > contents_.Committed()) {
    return Error(StatusCode::kOutOfRange, "sequence {}: fork at {} of {} tokens", id(), tokens,
                 contents_.Committed());
  }
  return contents_.Prefix(identity_.shape, identity_.account, tokens);
}

StatusOr<Sequence::Kept> Sequence::Keep() const {
  MutexLock lock(mutex_);
  PASSBAND_RETURN_IF_ERROR(CheckOpen());
  Kept kept{.committed = contents_.Committed(),
            .columns = {},
            .token_ids = contents_.token_ids,
            .chain = contents_.chain};
  const uint64_t columns = (kept.committed + kBlockTokens - 1) / kBlockTokens;
  kept.columns.reserve(columns);
  for (uint64_t i = 0; i < columns; ++i) kept.columns.push_back(contents_.ColumnAt(i));
  return kept;
}

bool Sequence::ReplaceTail(uint32_t layer, const BlockRef& block, const BlockRef& by) {
  BlockRef released;  // outlives the lock
  MutexLock lock(mutex_);
  if (closed_ || !sealed_) return false;
  Layer& rows = contents_.layers[layer];
  if (rows.published() != contents_.Committed() || rows.blocks().back() != block) return false;
  released = rows.ReplaceLast(by);
  return true;
}

Status Sequence::ListBlocks(MissingBlocks& all) const {
  MutexLock lock(mutex_);
  PASSBAND_RETURN_IF_ERROR(CheckOpen());
  if (!sealed_) {
    return Error(StatusCode::kFailedPrecondition, "sequence {} is not sealed: seal it, then pin it",
                 id());
  }
  for (uint32_t layer = 0; layer < contents_.layers.size(); ++layer) {
    const std::vector<BlockRef>& blocks = contents_.layers[layer].blocks();
    for (size_t i = 0; i < blocks.size(); ++i) {
      all.Add(blocks[i], blocks[i]->all_planes(), id(), layer, i * kBlockTokens);
    }
  }
  return OkStatus();
}

Status Sequence::Pin(SequencePin pin, Duration time) {
  std::optional<SequencePin> taken(std::move(pin));  // the one before outlives the lock
  MutexLock lock(mutex_);
  PASSBAND_RETURN_IF_ERROR(CheckOpen());
  pin_.swap(taken);
  life_.PinFor(time);
  return OkStatus();
}

bool Sequence::PinAgain(Duration time) {
  MutexLock lock(mutex_);
  if (!pin_.has_value()) return false;
  life_.PinFor(time);
  return true;
}

void Sequence::Unpin() {
  std::optional<SequencePin> dropped;  // outlives the lock
  MutexLock lock(mutex_);
  if (!life_.pinned()) return;
  pin_.swap(dropped);
  life_.Unpin();
}

bool Sequence::UnpinIfOver() {
  if (!life_.pin_over()) return false;
  std::optional<SequencePin> dropped;
  MutexLock lock(mutex_);
  if (!life_.pin_over()) return false;  // pinned again meanwhile
  pin_.swap(dropped);
  life_.Unpin();
  return true;
}

std::optional<Sequence::Closed> Sequence::Close() {
  MutexLock lock(mutex_);
  return CloseLocked();
}

std::optional<Sequence::Closed> Sequence::CloseIfOver() {
  MutexLock lock(mutex_);
  if (!life_.over() || contents_.appending()) return std::nullopt;
  return CloseLocked();
}

std::optional<Sequence::Closed> Sequence::CloseLocked() {
  if (closed_) return std::nullopt;
  Closed closed;
  closed_ = true;
  closed.sealed = sealed_;
  std::swap(closed.contents, contents_);
  closed.pin.swap(pin_);
  // The sealer may keep them a while longer: that is not the tenant's affair.
  for (Layer& layer : closed.contents.layers) layer.LeaveAccount();
  return closed;
}

bool Sequence::CloseUnlessSealed() {
  SequenceContents released;  // outlives the lock
  MutexLock lock(mutex_);
  if (closed_ || sealed_) return false;
  closed_ = true;
  std::swap(released, contents_);
  return true;
}

std::vector<NamedColumn> Sequence::GivenColumns() const {
  std::vector<NamedColumn> columns;
  MutexLock lock(mutex_);
  for (uint64_t i = 0; i < contents_.indexed; ++i) columns.push_back(contents_.NamedColumnAt(i));
  return columns;
}

StatusOr<SequenceInfo> Sequence::Stat() const {
  SequenceInfo info{
      .id = id(), .tenant = identity_.tenant, .model = identity_.model, .owner = identity_.owner};
  info.idle_seconds = Seconds(life_.idle());
  info.ttl_seconds = Seconds(life_.ttl().after);
  info.pin_seconds = Seconds(life_.pin_left());
  MutexLock lock(mutex_);
  PASSBAND_RETURN_IF_ERROR(CheckOpen());
  info.state = sealed_ ? SequenceState::kSealed : SequenceState::kOpen;
  info.committed_tokens = contents_.Committed();
  info.known_tokens = contents_.token_ids.size();
  // One layer stands for all: a long sequence has too many blocks to look at each.
  const std::vector<BlockRef>& blocks = contents_.layers.front().blocks();
  uint64_t shared_blocks = 0;
  uint64_t spilled_blocks = 0;
  for (const BlockRef& block : blocks) {
    if (block->users() > 1) ++shared_blocks;
    if (!block->resident()) ++spilled_blocks;
  }
  const uint64_t column_bytes = identity_.shape.token_bytes() * kBlockTokens;
  info.spilled_bytes = spilled_blocks * column_bytes;
  info.resident_bytes = (blocks.size() - spilled_blocks) * column_bytes;
  info.shared_tokens = std::min(shared_blocks * kBlockTokens, info.committed_tokens);
  return info;
}

StatusOr<Sequence::Length> Sequence::length() const {
  MutexLock lock(mutex_);
  PASSBAND_RETURN_IF_ERROR(CheckOpen());
  return Length{.committed = contents_.Committed(), .sealed = sealed_};
}

Status Sequence::CheckOpen() const {
  if (!closed_) return OkStatus();
  return Error(StatusCode::kNotFound, "sequence {} is not open", id());
}

Status Sequence::CheckAppendable() const {
  PASSBAND_RETURN_IF_ERROR(CheckOpen());
  if (!sealed_) return OkStatus();
  return Error(StatusCode::kFailedPrecondition, "sequence {} is sealed", id());
}

Status Sequence::CheckExtension(uint64_t first, uint64_t count) const {
  PASSBAND_RETURN_IF_ERROR(CheckAppendable());
  const uint64_t known = contents_.token_ids.size();
  if (first == known) return CheckLimit(known + count);
  return Error(first < known ? StatusCode::kAlreadyExists : StatusCode::kFailedPrecondition,
               "sequence {}: token ids from {}, but {} are known", id(), first, known);
}

Status Sequence::CheckLayer(uint32_t layer) const {
  if (layer < identity_.shape.layers) return OkStatus();
  return Error(StatusCode::kInvalidArgument, "sequence {}: layer {} of {}", id(), layer,
               identity_.shape.layers);
}

Status Sequence::CheckRange(uint32_t layer, uint64_t first, uint64_t count) const {
  PASSBAND_RETURN_IF_ERROR(CheckOpen());
  const uint64_t published = contents_.layers[layer].published();
  if (first <= published && count <= published - first) return OkStatus();
  return Error(StatusCode::kOutOfRange, "sequence {} layer {}: {} tokens from {}, of {}", id(),
               layer, count, first, published);
}

Status Sequence::CheckLimit(uint64_t tokens) const {
  const uint64_t limit = identity_.max_tokens == 0 ? kMaxTokens : identity_.max_tokens;
  if (tokens <= limit) return OkStatus();
  return Error(StatusCode::kOutOfRange, "sequence {}: {} tokens, of {} at most", id(), tokens,
               limit);
}

}  // namespace passband
