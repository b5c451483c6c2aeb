#include "kvstore/store_impl.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <random>
#include <utility>

#include "base/log.h"

namespace passband {
namespace {

void Warn(const Status& status) {
  if (!status.ok()) log::Warn("lives_not_recorded", {{"why", status}});
}

}  // namespace

Store::Impl::Impl(const Options& store_options, std::unique_ptr<Arena> owned_arena)
    : options(store_options),
      clock(options.clock != nullptr ? *options.clock : real_clock),
      arena(std::move(owned_arena)),
      home(*arena, options.tier, options.watcher),
      index(home),
      pool(home, index),
      models(arena->max_block_bytes()),
      tenants(options.tenant_quota, options.tenant_quotas, &home.shares()),
      pins({.tenant = options.pin_limit_bytes, .all = arena->bytes() / 2}),
      table(options.max_sequences,
            FirstSequenceId(std::chrono::system_clock::now(), std::random_device()())) {}

Status Store::Impl::Start() {
  if (options.tier != nullptr) PASSBAND_RETURN_IF_ERROR(StartTier());
  any_ends.store(options.sequence_ttl > Duration::zero());
  PASSBAND_RETURN_IF_ERROR(RestoreLives());
  if (options.reap_interval > Duration::zero()) {
    reaper = std::make_unique<Reaper>(options.reap_interval, [this] { Reap(); });
  }
  return OkStatus();
}

Status Store::Impl::StartTier() {
  CatalogLoader loader({options.catalog, options.tier, home, index, models, tenants, table, clock});
  if (options.catalog != nullptr) PASSBAND_RETURN_IF_ERROR(loader.Load());
  loaded = loader.counts();
  spiller = std::make_unique<Spiller>(home, index, pool, options.full_tier, options.catalog);
  evictor = std::make_unique<Evictor>(
      home, *spiller,
      Evictor::Options{.high = options.high_watermark, .low = options.low_watermark});
  pool.set_evictor([this](bool starved) { evictor->Kick(starved); });
  restorer = std::make_unique<Restorer>(home, pool, options.restore_threads);
  if (options.catalog != nullptr) {
    sealer = std::make_unique<Sealer>(home, index, *spiller, *options.catalog, models, table,
                                      loader.TakeLedger());
  }
  return OkStatus();
}

Store::Impl::~Impl() {
  reaper.reset();
  sealer.reset();
  restorer.reset();
  evictor.reset();
  pool.set_evictor(nullptr);
  home.KeepCopies(true);
}

void Store::Impl::Publish(const Sequence& sequence, const std::vector<NamedColumn>& columns) {
  if (columns.empty()) return;
  const PrefixSpace space{.tenant = sequence.identity().tenant, .model = sequence.identity().model};
  const auto insert = [&](const NamedColumn& column) { return index.Insert(column, space); };
  if (std::all_of(columns.begin(), columns.end(), insert)) return;
  const std::vector<NamedColumn> given = sequence.GivenColumns();
  (void)std::all_of(given.begin(), given.end(), insert);
}

void Store::Impl::Settle(const Status& status, PinnedRows::Mark mark, PinnedRows& out,
                         MissingBlocks& missing) {
  const uint64_t found = out.mark().pins - mark.pins;
  if (!status.ok()) missing.Clear();
  if (!status.ok() || !missing.empty()) out.ReturnTo(mark);
  ram_hits.fetch_add(found, std::memory_order_relaxed);
}

void Store::Impl::RecordLives(const LifeRecords::Sequences& sequences, bool idle) {
  if (lives != nullptr) Warn(lives->Write(sequences, idle));
}

Status Store::Impl::RestoreLives() {
  const LifeRecords::Sequences sequences = table.All();
  for (const auto& sequence : sequences) sequence->life().SetTtl(UsualTtl());
  if (options.catalog == nullptr) return OkStatus();
  lives = std::make_unique<LifeRecords>(*options.catalog);
  PASSBAND_ASSIGN_OR_RETURN(const auto pinned, lives->Load(sequences));
  if (!sequences.empty()) any_ends.store(true);
  for (const LifeRecords::Pinned& pin : pinned) {
    // Until its blocks are back: nobody closes it the while.
    pin.sequence->life().PinFor(pin.left);
    StartPin(pin.sequence, pin.left, [this, sequence = pin.sequence](const Status& status) {
      if (status.ok()) return;
      log::Warn("pin_not_restored", {{"sequence", sequence->id()}, {"why", status}});
      sequence->Unpin();
      RecordLives({sequence});
    });
  }
  return OkStatus();
}

uint64_t Store::Impl::Reap() {
  if (!any_ends.load(std::memory_order_relaxed)) return 0;
  uint64_t count = 0;
  LifeRecords::Sequences unpinned;
  table.ForEach(SequenceId(), [&](Sequence& sequence) {
    if (sequence.UnpinIfOver()) {
      auto found = table.Find(sequence.identity().tenant, sequence.id());
      if (found.ok()) unpinned.push_back(*std::move(found));
    }
    if (!sequence.life().over()) return true;
    std::optional<Sequence::Closed> closed = sequence.CloseIfOver();
    if (!closed.has_value()) return true;
    Bury(sequence.id(), *std::move(closed));
    ++count;
    return true;
  });
  RecordLives(unpinned);
  if (lives != nullptr) Warn(lives->Sweep());
  reaped.fetch_add(count, std::memory_order_relaxed);
  if (count > 0) log::Info("sequences_reaped", {{"sequences", count}});
  return count;
}

void Store::Impl::Bury(SequenceId id, Sequence::Closed closed) {
  table.Erase(id);
  if (lives != nullptr) lives->Forget(id);
  if (closed.sealed && sealer != nullptr) sealer->Forget(id, std::move(closed.contents));
}

StoreStats Store::Impl::MemoryStats() const {
  StoreStats stats{.capacity_bytes = arena->bytes(),
                   .used_bytes = arena->used_bytes(),
                   .cached_bytes = home.cached_bytes(),
                   .prefix_blocks = index.columns(),
                   .prefix_lookups = prefix_lookups.load(std::memory_order_relaxed),
                   .prefix_hits = prefix_hits.load(std::memory_order_relaxed),
                   .evicted_blocks = pool.evicted_blocks(),
                   .allocation_failures = pool.failures(),
                   .allocation_stalls = pool.stalls()};
  stats.pins = pins.pins();
  stats.pinned_bytes = pins.bytes();
  stats.sequences_reaped = reaped.load(std::memory_order_relaxed);
  stats.ram_hits = ram_hits.load(std::memory_order_relaxed);
  if (options.tier == nullptr) return stats;
  const TierStats tier = options.tier->Stats();
  stats.tier_capacity_bytes = tier.capacity_bytes;
  stats.tier_used_bytes = tier.used_bytes;
  stats.spilled_bytes = home.spilled_bytes();
  stats.clean_bytes = home.clean_bytes();
  stats.pending_spill_bytes = home.dirty_bytes();
  const Spiller::Stats spills = spiller->stats();
  stats.spilled_blocks = spills.written_blocks;
  stats.spill_written_bytes = spills.written_bytes;
  stats.spill_errors = spills.errors;
  stats.dropped_generations = spills.dropped_generations;
  stats.evictions_clean = home.dropped_blocks();
  stats.evictions_dirty = evictor->dirty_evictions();
  const Restorer::Stats restores = restorer->stats();
  stats.restore_jobs = restores.jobs;
  stats.restore_failures = restores.failures;
  stats.restores_pending = restores.pending_jobs;
  stats.restored_blocks = restores.blocks;
  stats.restored_planes = restores.plane_reads;
  stats.restored_bytes = restores.bytes;
  stats.lost_blocks = restores.lost_blocks;
  stats.tier_read_errors = restores.tier_errors;
  stats.restored_sequences = loaded.sequences;
  stats.left_out_sequences = loaded.left_out;
  stats.damaged_records = loaded.damaged;
  stats.restored_prefix_blocks = loaded.prefixes;
  if (sealer == nullptr) return stats;
  const Sealer::Stats seals = sealer->stats();
  stats.durable_seals = seals.sealed;
  stats.seal_failures = seals.failures;
  stats.seals_pending = seals.pending;
  stats.renewed_seals = seals.renewed;
  stats.renewals_pending = seals.renewals_pending;
  stats.lost_seals = seals.lost;
  stats.erasure_failures = seals.erasure_failures;
  stats.erasures_pending = seals.erasures_pending;
  stats.recorded_prefix_blocks = seals.prefixes;
  return stats;
}

}  // namespace passband
