// PrefixRecorder: makes the prefix index survive a restart: a record for each of its columns that
// the tier holds, whatever became of the sequences that it was of.
//
//     Gather -> the tier is flushed -> Write
//
// So what a record names is on the device. A column in front of recorded ones that is in RAM only
// is written to the tier, for without it those could not be reached. The record goes when the
// index lets go of the column, soon after its blocks; should the process be killed in between,
// the loader finds them gone. So there are never many more records than columns that the tier has
// room for.
//
// Threads    one: the sealer's; recorded() from any.
// Ownership  what it is created with must outlive it.
// Errors     those of the tier and the catalog; what was not written is tried again.
#pragma once

#include <atomic>
#include <cstdint>
#include <set>
#include <span>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "base/status.h"
#include "kvstore/catalog.h"
#include "kvstore/model_registry.h"
#include "kvstore/prefix_index.h"
#include "kvstore/spiller.h"

namespace passband {

class PrefixRecorder {
 public:
  PrefixRecorder(PrefixIndex& index, Spiller& spiller, Catalog& catalog,
                 const ModelRegistry& models)
      : index_(index),
        spiller_(spiller),
        catalog_(catalog),
        models_(models),
        recorded_(index.recorded()) {}

  // The columns of a chain that the tier holds.
  void Gather(std::span<const PrefixDigest> chain);
  // The records of what was gathered, and `batch`, together or not at all.
  Status Write(CatalogBatch batch);

  // What came and went in the meantime, once that was some time ago.
  void RecordIfDue();
  void Record();
  // The tier forgot generations up to this one.
  void NoteForgotten(uint64_t generation) { index_.ForgetRecords(generation); }

  // How many columns had a record when it was last written to the catalog.
  uint64_t recorded() const { return recorded_.load(std::memory_order_relaxed); }

 private:
  void Put(std::span<const PrefixRecord> columns);
  // True: all of them are in the tier now, and there were some.
  bool WriteBlocks(std::span<const BlockRef> blocks);

  PrefixIndex& index_;
  Spiller& spiller_;
  Catalog& catalog_;
  const ModelRegistry& models_;
  // Fingerprints, of columns that were recorded and that are to be.
  std::set<std::string> recorded_models_;
  std::set<std::string> other_models_;
  // By digest, what is to be written: nothing, when the record is to go.
  absl::flat_hash_map<PrefixDigest, std::string> changes_;
  std::atomic<uint64_t> recorded_;
  Time next_{};
  Duration pause_{};
};

}  // namespace passband
