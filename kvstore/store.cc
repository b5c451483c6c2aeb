#include "kvstore/store.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "kvstore/block_pool.h"
#include "kvstore/model_registry.h"
#include "kvstore/prefix_chain.h"
#include "kvstore/prefix_index.h"
#include "kvstore/sequence.h"
#include "kvstore/sequence_table.h"

namespace passband {

struct Store::Impl {
  Impl(const Options& options, std::unique_ptr<Arena> owned_arena)
      : clock(options.clock != nullptr ? *options.clock : real_clock),
        arena(std::move(owned_arena)),
        index(*arena),
        pool(*arena, index),
        models(arena->max_block_bytes()),
        table(options.max_sequences) {}

  // Gives columns to the prefix index. When the index has dropped columns before
  // them (equal ones that another sequence had given), gives all of the
  // sequence's own.
  void Publish(const Sequence& sequence, const std::vector<NamedColumn>& columns) {
    const auto insert = [&](const NamedColumn& column) { return index.Insert(column); };
    if (std::all_of(columns.begin(), columns.end(), insert)) return;
    const std::vector<NamedColumn> given = sequence.GivenColumns();
    (void)std::all_of(given.begin(), given.end(), insert);
  }

  // Members are destroyed from the last up: the arena after all who claim blocks.
  const RealClock real_clock;
  const Clock& clock;
  const std::unique_ptr<Arena> arena;
  PrefixIndex index;
  BlockPool pool;
  ModelRegistry models;
  SequenceTable table;
  std::atomic<uint64_t> prefix_lookups{0};
  std::atomic<uint64_t> prefix_hits{0};
};

struct Store::AppendSlot::State {
  State(Impl* owner, std::shared_ptr<Sequence> its_sequence, uint32_t its_layer,
        Layer::Ticket its_ticket)
      : impl(owner),
        sequence(std::move(its_sequence)),
        layer(its_layer),
        ticket(std::move(its_ticket)) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (!committed) sequence->Abort(layer, ticket);
  }

  Impl* const impl;
  const std::shared_ptr<Sequence> sequence;
  const uint32_t layer;
  const Layer::Ticket ticket;
  bool committed = false;
};

Store::AppendSlot::AppendSlot(std::unique_ptr<State> state) : state_(std::move(state)) {}
Store::AppendSlot::AppendSlot(AppendSlot&&) noexcept = default;
Store::AppendSlot& Store::AppendSlot::operator=(AppendSlot&&) noexcept = default;
Store::AppendSlot::~AppendSlot() = default;

std::byte* Store::AppendSlot::block() const { return state_->ticket.block->data(); }

bool Store::AppendSlot::covers_block() const { return state_->ticket.count == kBlockTokens; }

uint64_t Store::AppendSlot::bytes() const {
  const KvShape& shape = state_->sequence->identity().shape;
  return uint64_t{state_->ticket.count} * shape.kv_heads * shape.row_bytes;
}

void Store::AppendSlot::Scatter(const std::byte* rows) const {
  PASSBAND_CHECK(!state_->committed);
  const KvShape& shape = state_->sequence->identity().shape;
  const uint64_t run = uint64_t{state_->ticket.count} * shape.row_bytes;
  const uint64_t start = state_->ticket.first % kBlockTokens;
  for (uint64_t head = 0; head < shape.kv_heads; ++head) {
    std::memcpy(block() + (head * kBlockTokens + start) * shape.row_bytes, rows + head * run, run);
  }
}

Status Store::AppendSlot::Commit() {
  PASSBAND_CHECK(!state_->committed);
  std::vector<NamedColumn> complete;
  PASSBAND_RETURN_IF_ERROR(state_->sequence->Commit(state_->layer, state_->ticket, complete));
  state_->committed = true;
  state_->impl->Publish(*state_->sequence, complete);
  return OkStatus();
}

StatusOr<std::unique_ptr<Store>> Store::Create(Options options) {
  PASSBAND_ASSIGN_OR_RETURN(std::unique_ptr<Arena> arena, Arena::Create(options.arena));
  return std::unique_ptr<Store>(new Store(std::make_unique<Impl>(options, std::move(arena))));
}

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() = default;

Status Store::RegisterModel(const ModelSpec& model) { return impl_->models.Register(model); }

StatusOr<ModelSpec> Store::FindModel(const std::string& fingerprint) const {
  return impl_->models.Find(fingerprint);
}

std::vector<ModelSpec> Store::Models() const { return impl_->models.All(); }

StatusOr<Store::OpenResult> Store::Open(const OpenRequest& request) {
  PASSBAND_ASSIGN_OR_RETURN(const ModelSpec model, impl_->models.Find(request.model));
  if (request.max_tokens != 0 && request.token_ids.size() > request.max_tokens) {
    return Error(StatusCode::kOutOfRange, "{} token ids for a sequence of {} tokens at most",
                 request.token_ids.size(), request.max_tokens);
  }
  Sequence::Identity identity{.id = impl_->table.NextId(),
                              .tenant = request.tenant,
                              .model = request.model,
                              .shape = model.shape,
                              .owner = request.owner,
                              .max_tokens = request.max_tokens,
                              .root = PrefixRoot(request.model, request.tenant)};
  std::vector<PrefixDigest> chain;
  ExtendPrefixChain(identity.root, request.token_ids, chain);
  std::vector<Column> columns;
  if (request.share_prefix) columns = impl_->index.Match(chain);
  const uint64_t matched = columns.size() * kBlockTokens;

  Sequence::Contents contents = Sequence::FromColumns(model.shape, columns);
  contents.token_ids = request.token_ids;
  contents.chain = std::move(chain);
  const SequenceId id = identity.id;
  PASSBAND_RETURN_IF_ERROR(impl_->table.Insert(
      std::make_shared<Sequence>(std::move(identity), std::move(contents), impl_->clock)));
  if (request.share_prefix) {
    impl_->prefix_lookups.fetch_add(request.token_ids.size(), std::memory_order_relaxed);
    impl_->prefix_hits.fetch_add(matched, std::memory_order_relaxed);
  }
  return OpenResult{.id = id, .matched_tokens = matched};
}

StatusOr<SequenceId> Store::Fork(const std::string& tenant, SequenceId id, uint64_t tokens,
                                 OwnerId owner) {
  PASSBAND_ASSIGN_OR_RETURN(const auto parent, impl_->table.Find(tenant, id));
  PASSBAND_ASSIGN_OR_RETURN(Sequence::Contents contents, parent->Fork(tokens));
  Sequence::Identity identity = parent->identity();
  identity.id = impl_->table.NextId();
  identity.owner = owner;
  const SequenceId fork = identity.id;
  PASSBAND_RETURN_IF_ERROR(impl_->table.Insert(
      std::make_shared<Sequence>(std::move(identity), std::move(contents), impl_->clock)));
  return fork;
}

Status Store::ExtendTokenIds(const std::string& tenant, SequenceId id, uint64_t first,
                             std::span<const uint32_t> token_ids) {
  PASSBAND_ASSIGN_OR_RETURN(const auto sequence, impl_->table.Find(tenant, id));
  std::vector<NamedColumn> complete;
  PASSBAND_RETURN_IF_ERROR(sequence->ExtendTokenIds(first, token_ids, complete));
  impl_->Publish(*sequence, complete);
  return OkStatus();
}

Status Store::Truncate(const std::string& tenant, SequenceId id, uint64_t tokens) {
  PASSBAND_ASSIGN_OR_RETURN(const auto sequence, impl_->table.Find(tenant, id));
  return sequence->Truncate(tokens);
}

Status Store::Seal(const std::string& tenant, SequenceId id) {
  PASSBAND_ASSIGN_OR_RETURN(const auto sequence, impl_->table.Find(tenant, id));
  return sequence->Seal();
}

Status Store::Close(const std::string& tenant, SequenceId id) {
  PASSBAND_ASSIGN_OR_RETURN(const auto sequence, impl_->table.Find(tenant, id));
  if (!sequence->Close()) return Error(StatusCode::kNotFound, "sequence {} is not open", id);
  impl_->table.Erase(id);
  return OkStatus();
}

uint64_t Store::CloseOwned(OwnerId owner) {
  uint64_t closed = 0;
  impl_->table.ForEach(SequenceId(), [&](Sequence& sequence) {
    if (sequence.identity().owner != owner || !sequence.CloseUnlessSealed()) return true;
    impl_->table.Erase(sequence.id());
    ++closed;
    return true;
  });
  return closed;
}

StatusOr<SequenceInfo> Store::Stat(const std::string& tenant, SequenceId id) const {
  PASSBAND_ASSIGN_OR_RETURN(const auto sequence, impl_->table.Find(tenant, id));
  return sequence->Stat();
}

std::vector<SequenceInfo> Store::List(const std::string& tenant, SequenceId after,
                                      uint64_t limit) const {
  std::vector<SequenceInfo> infos;
  impl_->table.ForEach(after, [&](const Sequence& sequence) {
    if (infos.size() >= limit) return false;
    if (!tenant.empty() && sequence.identity().tenant != tenant) return true;
    StatusOr<SequenceInfo> info = sequence.Stat();
    if (info.ok()) infos.push_back(*std::move(info));  // else closed meanwhile
    return true;
  });
  return infos;
}

StatusOr<uint64_t> Store::Lookup(const std::string& tenant, const std::string& model,
                                 std::span<const uint32_t> token_ids) const {
  PASSBAND_RETURN_IF_ERROR(impl_->models.Find(model).status());
  std::vector<PrefixDigest> chain;
  ExtendPrefixChain(PrefixRoot(model, tenant), token_ids, chain);
  return impl_->index.Count(chain) * kBlockTokens;
}

StatusOr<Store::AppendSlot> Store::BeginAppend(const std::string& tenant, SequenceId id,
                                               uint32_t layer, uint64_t first, uint32_t count) {
  PASSBAND_ASSIGN_OR_RETURN(auto sequence, impl_->table.Find(tenant, id));
  PASSBAND_ASSIGN_OR_RETURN(Layer::Ticket ticket,
                            sequence->BeginAppend(layer, first, count, impl_->pool));
  return AppendSlot(std::make_unique<AppendSlot::State>(impl_.get(), std::move(sequence), layer,
                                                        std::move(ticket)));
}

Status Store::Resolve(const std::string& tenant, std::span<const RowGroup> groups,
                      PinnedRows& out) {
  const PinnedRows::Mark mark = out.mark();
  for (size_t begin = 0; begin < groups.size();) {
    const SequenceId id = groups[begin].sequence;
    size_t end = begin + 1;
    while (end < groups.size() && groups[end].sequence == id) ++end;
    const auto sequence = impl_->table.Find(tenant, id);
    const Status status = sequence.ok()
                              ? (*sequence)->Resolve(groups.subspan(begin, end - begin), out)
                              : sequence.status();
    if (!status.ok()) {
      out.ReturnTo(mark);
      return status;
    }
    begin = end;
  }
  return OkStatus();
}

Status Store::ResolveRange(const std::string& tenant, SequenceId id, uint32_t layer, uint64_t first,
                           uint64_t count, PinnedRows& out) {
  PASSBAND_ASSIGN_OR_RETURN(const auto sequence, impl_->table.Find(tenant, id));
  return sequence->ResolveRange(layer, first, count, out);
}

StatusOr<KvShape> Store::ShapeOf(const std::string& tenant, SequenceId id) const {
  PASSBAND_ASSIGN_OR_RETURN(const auto sequence, impl_->table.Find(tenant, id));
  return sequence->identity().shape;
}

uint64_t Store::Evict(uint64_t bytes) { return impl_->pool.Evict(bytes); }

StoreStats Store::Stats() const {
  StoreStats stats{.capacity_bytes = impl_->arena->bytes(),
                   .used_bytes = impl_->arena->used_bytes(),
                   .cached_bytes = impl_->arena->cached_bytes(),
                   .prefix_blocks = impl_->index.columns(),
                   .prefix_lookups = impl_->prefix_lookups.load(std::memory_order_relaxed),
                   .prefix_hits = impl_->prefix_hits.load(std::memory_order_relaxed),
                   .evicted_blocks = impl_->pool.evicted_blocks(),
                   .allocation_failures = impl_->pool.failures()};
  impl_->table.ForEach(SequenceId(), [&](const Sequence& sequence) {
    const StatusOr<Sequence::Length> length = sequence.length();
    if (!length.ok()) return true;  // closed meanwhile
    ++(length->sealed ? stats.sequences_sealed : stats.sequences_open);
    stats.stored_tokens += length->committed;
    return true;
  });
  return stats;
}

const Arena& Store::arena() const { return *impl_->arena; }

}  // namespace passband
