// The data calls of Store: appends, rows, and bringing them back.
#include <chrono>
#include <cstring>
#include <future>
#include <utility>

#include "kvstore/store.h"
#include "kvstore/store_impl.h"

namespace passband {

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
Store::AppendSlot::AppendSlot() = default;
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

StatusOr<Store::AppendSlot> Store::BeginAppend(const std::string& tenant, SequenceId id,
                                               uint32_t layer, uint64_t first, uint32_t count,
                                               MissingBlocks& missing) {
  missing.Clear();
  PASSBAND_ASSIGN_OR_RETURN(auto sequence, impl_->table.Find(tenant, id));
  PASSBAND_ASSIGN_OR_RETURN(Layer::Ticket ticket,
                            sequence->BeginAppend(layer, first, count, impl_->pool, missing));
  if (!ticket.block) return AppendSlot();
  return AppendSlot(std::make_unique<AppendSlot::State>(impl_.get(), std::move(sequence), layer,
                                                        std::move(ticket)));
}

Status Store::Resolve(const std::string& tenant, std::span<const RowGroup> groups, PinnedRows& out,
                      MissingBlocks& missing) {
  missing.Clear();
  const PinnedRows::Mark mark = out.mark();
  Status status;
  for (size_t begin = 0; begin < groups.size() && status.ok();) {
    const SequenceId id = groups[begin].sequence;
    size_t end = begin + 1;
    while (end < groups.size() && groups[end].sequence == id) ++end;
    const auto sequence = impl_->table.Find(tenant, id);
    status = sequence.ok() ? (*sequence)->Resolve(groups.subspan(begin, end - begin), out, missing)
                           : sequence.status();
    begin = end;
  }
  impl_->Settle(status, mark, out, missing);
  return status;
}

Status Store::ResolveRange(const std::string& tenant, SequenceId id, uint32_t layer, uint64_t first,
                           uint64_t count, PinnedRows& out, MissingBlocks& missing) {
  missing.Clear();
  PASSBAND_ASSIGN_OR_RETURN(const auto sequence, impl_->table.Find(tenant, id));
  const PinnedRows::Mark mark = out.mark();
  const Status status = sequence->ResolveRange(layer, first, count, out, missing);
  impl_->Settle(status, mark, out, missing);
  return status;
}

Status Store::ResolveBlocks(const std::string& tenant, SequenceId id, uint32_t layer,
                            uint64_t first, uint64_t count, const WantedBlock& wanted,
                            PinnedBlocks& out, MissingBlocks& missing) {
  missing.Clear();
  out.Clear();
  PASSBAND_ASSIGN_OR_RETURN(const auto sequence, impl_->table.Find(tenant, id));
  PASSBAND_RETURN_IF_ERROR(sequence->ResolveBlocks(layer, first, count, wanted, out, missing));
  impl_->ram_hits.fetch_add(out.pins(), std::memory_order_relaxed);
  if (!missing.empty()) out.Clear();
  return OkStatus();
}

void Store::Restore(const MissingBlocks& missing, Time deadline, RestoreDone done) {
  if (missing.empty()) return done(OkStatus(), {});
  impl_->restorer->Start(missing, deadline, std::move(done));
}

// Each round keeps what the ones before brought back: what is left gets less.
template <typename Call>
Status Store::CallUntilFound(Call call) {
  const Time deadline = std::chrono::steady_clock::now() + impl_->options.restore_wait;
  std::vector<RestoreHold> holds;
  while (true) {
    MissingBlocks missing;
    PASSBAND_RETURN_IF_ERROR(call(missing));
    if (missing.empty()) return OkStatus();
    const auto promise = std::make_shared<std::promise<std::pair<Status, RestoreHold>>>();
    Restore(missing, deadline, [promise](const Status& status, RestoreHold hold) {
      promise->set_value({status, std::move(hold)});
    });
    auto [status, hold] = promise->get_future().get();
    PASSBAND_RETURN_IF_ERROR(status);
    holds.push_back(std::move(hold));
  }
}

StatusOr<Store::AppendSlot> Store::BeginAppend(const std::string& tenant, SequenceId id,
                                               uint32_t layer, uint64_t first, uint32_t count) {
  AppendSlot slot;
  PASSBAND_RETURN_IF_ERROR(CallUntilFound([&](MissingBlocks& missing) -> Status {
    PASSBAND_ASSIGN_OR_RETURN(slot, BeginAppend(tenant, id, layer, first, count, missing));
    return OkStatus();
  }));
  return slot;
}

Status Store::Resolve(const std::string& tenant, std::span<const RowGroup> groups,
                      PinnedRows& out) {
  return CallUntilFound(
      [&](MissingBlocks& missing) { return Resolve(tenant, groups, out, missing); });
}

Status Store::ResolveRange(const std::string& tenant, SequenceId id, uint32_t layer, uint64_t first,
                           uint64_t count, PinnedRows& out) {
  return CallUntilFound([&](MissingBlocks& missing) {
    return ResolveRange(tenant, id, layer, first, count, out, missing);
  });
}

}  // namespace passband
