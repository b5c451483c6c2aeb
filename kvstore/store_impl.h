// Store::Impl: the parts behind the store's door, for the sources that make up Store.
//
// Threads    each part says.
// Ownership  members are destroyed from the last up: threads before what they work on, the
//            arena after all who hold slots.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "kvstore/block_home.h"
#include "kvstore/block_pool.h"
#include "kvstore/catalog_loader.h"
#include "kvstore/evictor.h"
#include "kvstore/life_records.h"
#include "kvstore/model_registry.h"
#include "kvstore/pin_budget.h"
#include "kvstore/prefix_index.h"
#include "kvstore/reaper.h"
#include "kvstore/restorer.h"
#include "kvstore/sealer.h"
#include "kvstore/sequence.h"
#include "kvstore/sequence_table.h"
#include "kvstore/spiller.h"
#include "kvstore/store.h"

namespace passband {

struct Store::Impl {
  Impl(const Options& store_options, std::unique_ptr<Arena> owned_arena);
  ~Impl();
  // Reads the catalog and starts the threads.
  Status Start();
  Status StartTier();

  // Gives columns to the prefix index. When the index has dropped columns before
  // them (equal ones that another sequence had given), gives all of the
  // sequence's own.
  void Publish(const Sequence& sequence, const std::vector<NamedColumn>& columns);
  // After an error, or with something missing, nothing has been resolved.
  void Settle(const Status& status, PinnedRows::Mark mark, PinnedRows& out, MissingBlocks& missing);
  // What a sequence without a TTL of its own has.
  Ttl UsualTtl() const { return {.after = options.sequence_ttl, .own = false}; }
  uint64_t Reap();
  // Of sealed sequences; waits for the disk. What cannot be written is logged, and after a crash
  // known as it was before.
  void RecordLives(const LifeRecords::Sequences& sequences, bool idle = false);
  Status RestoreLives();
  void StartPin(const std::shared_ptr<Sequence>& sequence, Duration time,
                std::function<void(const Status&)> done);
  // After Sequence::Close.
  void Bury(SequenceId id, Sequence::Closed closed);
  // All but what is counted by sequence.
  StoreStats MemoryStats() const;

  const Options options;
  const RealClock real_clock;
  const Clock& clock;
  const std::unique_ptr<Arena> arena;
  BlockHome home;
  PrefixIndex index;
  BlockPool pool;
  ModelRegistry models;
  TenantTable tenants;
  PinBudget pins;
  SequenceTable table;
  std::atomic<uint64_t> prefix_lookups{0};
  std::atomic<uint64_t> prefix_hits{0};
  std::atomic<uint64_t> ram_hits{0};
  std::atomic<uint64_t> reaped{0};
  std::atomic<bool> any_ends{false};  // some sequence has or had a TTL or a pin
  // Null without a tier.
  std::unique_ptr<Spiller> spiller;
  std::unique_ptr<Evictor> evictor;
  std::unique_ptr<Restorer> restorer;
  // Null without a catalog.
  std::unique_ptr<LifeRecords> lives;
  std::unique_ptr<Sealer> sealer;
  CatalogLoader::Counts loaded;
  std::unique_ptr<Reaper> reaper;
};

}  // namespace passband
