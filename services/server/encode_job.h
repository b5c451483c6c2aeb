// EncodeJob: SLICES of a range of tokens: those of some blocks are at hand, those of the others
// are encoded from their keys, and given to the cache where a block is whole.
//
// Units      slices, ordered [kv_head][tokens]; tokens.
// Threads    its data thread.
// Ownership  pins the blocks that it encodes; the cache must outlive it.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "kvstore/pinned_blocks.h"
#include "profile/profile.h"
#include "services/server/reply_job.h"
#include "services/server/slice_cache.h"
#include "transport/wire.h"

namespace passband::server {

struct SliceRange {
  transport::SlicesHeader wanted{};
  std::shared_ptr<const Profile> profile;
  // By block, from the one of the first token on: its slices, or else where its rows are.
  std::vector<std::shared_ptr<const SliceCache::Slices>> known;
  PinnedBlocks blocks;

  SliceCache::Recipe recipe() const { return {.profile = wanted.profile, .layer = wanted.layer}; }
};

class EncodeJob final : public ReplyJob {
 public:
  EncodeJob(Request for_request, SliceRange range, SliceCache& cache);
  void Fill(size_t first, size_t count, std::byte* out) const override;
  void NoteFilled() override;
  void CountSent() const override;

 private:
  const SliceRange range_;
  const size_t tokens_;  // of each head
  const size_t stride_;  // from one stored row to the next
  SliceCache& cache_;
  ThreadCounters& counters_;
};

}  // namespace passband::server
