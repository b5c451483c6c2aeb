#include "kvstore/store.h"

#include <utility>

#include "kvstore/prefix_chain.h"
#include "kvstore/store_impl.h"

namespace passband {

StatusOr<std::unique_ptr<Store>> Store::Create(Options options) {
  if (!(options.low_watermark > 0 && options.low_watermark <= options.high_watermark &&
        options.high_watermark <= 1)) {
    return Error(StatusCode::kInvalidArgument, "watermarks {} and {}: give 0 < low <= high <= 1",
                 options.low_watermark, options.high_watermark);
  }
  if (options.catalog != nullptr && options.tier == nullptr) {
    return Error(StatusCode::kInvalidArgument, "a catalog needs the tier that it names blocks of");
  }
  PASSBAND_ASSIGN_OR_RETURN(std::unique_ptr<Arena> arena, Arena::Create(options.arena));
  auto impl = std::make_unique<Impl>(options, std::move(arena));
  PASSBAND_RETURN_IF_ERROR(impl->Start());
  return std::unique_ptr<Store>(new Store(std::move(impl)));
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
  if (request.ttl < Duration::zero() || request.ttl > kMaxTtl) {
    return Error(StatusCode::kInvalidArgument, "a TTL of {:.0f} s: give {:.0f} s at most",
                 Seconds(request.ttl), Seconds(kMaxTtl));
  }
  const bool own_ttl = request.ttl > Duration::zero();
  Sequence::Identity identity{.id = impl_->table.NextId(),
                              .tenant = request.tenant,
                              .model = request.model,
                              .shape = model.shape,
                              .owner = request.owner,
                              .max_tokens = request.max_tokens,
                              .root = PrefixRoot(request.model, request.tenant),
                              .account = impl_->tenants.Find(request.tenant),
                              .ttl = own_ttl ? Ttl{request.ttl, true} : impl_->UsualTtl()};
  if (own_ttl) impl_->any_ends.store(true, std::memory_order_relaxed);
  std::vector<PrefixDigest> chain;
  ExtendPrefixChain(identity.root, request.token_ids, chain);
  std::vector<Column> columns;
  if (request.share_prefix) columns = impl_->index.Match(chain);
  const uint64_t matched = columns.size() * kBlockTokens;

  PASSBAND_ASSIGN_OR_RETURN(
      SequenceContents contents,
      SequenceContents::FromColumns(identity.shape, identity.account, columns, matched));
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
  PASSBAND_ASSIGN_OR_RETURN(SequenceContents contents, parent->Fork(tokens));
  Sequence::Identity identity = parent->identity();
  identity.id = impl_->table.NextId();
  identity.owner = owner;
  identity.ttl = parent->life().ttl();
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

Status Store::Close(const std::string& tenant, SequenceId id) {
  PASSBAND_ASSIGN_OR_RETURN(const auto sequence, impl_->table.Find(tenant, id));
  std::optional<Sequence::Closed> closed = sequence->Close();
  if (!closed.has_value()) return Error(StatusCode::kNotFound, "sequence {} is not open", id);
  impl_->Bury(id, *std::move(closed));
  return OkStatus();
}

uint64_t Store::Reap() { return impl_->Reap(); }

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

StatusOr<KvShape> Store::ShapeOf(const std::string& tenant, SequenceId id) const {
  PASSBAND_ASSIGN_OR_RETURN(const auto sequence, impl_->table.Find(tenant, id));
  return sequence->identity().shape;
}

uint64_t Store::Evict(uint64_t bytes) { return impl_->pool.Evict(bytes); }

StoreStats Store::Stats() const {
  StoreStats stats = impl_->MemoryStats();
  impl_->table.ForEach(SequenceId(), [&](const Sequence& sequence) {
    const StatusOr<Sequence::Length> length = sequence.length();
    if (!length.ok()) return true;  // closed meanwhile
    ++(length->sealed ? stats.sequences_sealed : stats.sequences_open);
    stats.stored_tokens += length->committed;
    return true;
  });
  return stats;
}

std::vector<TenantUse> Store::Tenants(size_t limit) const { return impl_->tenants.Uses(limit); }

const Arena& Store::arena() const { return *impl_->arena; }

}  // namespace passband
