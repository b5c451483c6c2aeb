#include "services/server/slices_service.h"

#include <utility>

namespace passband::server {

void SlicesService::Serve(Request request, const transport::SlicesHeader& slices) {
  const auto range = std::make_shared<SliceRange>();
  range->wanted = slices;
  MissingBlocks missing;
  const Status found = Find(request.tenant(), *range, missing);
  if (!found.ok()) return request.Fail(found);
  const auto serve = [this, range](Request answered, const PinnedRows&) {
    queue_.Push(std::make_unique<EncodeJob>(std::move(answered), std::move(*range), cache_));
  };
  if (missing.empty()) return serve(std::move(request), {});
  restores_.Push(
      std::move(request), missing,
      [this, range](const Request& waiting, PinnedRows&, MissingBlocks& more) {
        return Find(waiting.tenant(), *range, more);
      },
      serve);
}

Status SlicesService::Find(const std::string& tenant, SliceRange& range, MissingBlocks& missing) {
  const transport::SlicesHeader& slices = range.wanted;
  const SequenceId id{slices.sequence};
  range.profile = profiles_.Find(slices.profile);
  if (range.profile == nullptr) {
    return Error(StatusCode::kNotFound, "profile {} is not registered", slices.profile);
  }
  PASSBAND_RETURN_IF_ERROR(CheckModel(tenant, id, *range.profile));
  PASSBAND_RETURN_IF_ERROR(CheckSize(slices, *range.profile));
  range.known.clear();
  const SliceCache::Recipe recipe = range.recipe();
  const auto wanted = [&](size_t, const Block& block) {
    return range.known.emplace_back(cache_.Find(block, recipe)) == nullptr;
  };
  return store_.ResolveBlocks(tenant, id, slices.layer, slices.first_token, slices.count, wanted,
                              range.blocks, missing);
}

Status SlicesService::CheckModel(const std::string& tenant, SequenceId id,
                                 const Profile& profile) const {
  PASSBAND_ASSIGN_OR_RETURN(const SequenceInfo info, store_.Stat(tenant, id));
  if (info.model == profile.fingerprint.text()) return OkStatus();
  return Error(StatusCode::kFailedPrecondition, "sequence {} is of model {}, the profile of {}", id,
               info.model, profile.fingerprint.text());
}

Status SlicesService::CheckSize(const transport::SlicesHeader& slices,
                                const Profile& profile) const {
  const uint64_t rows = uint64_t{slices.count} * profile.kv_heads;
  const uint64_t bytes = rows * profile.slice_bytes();
  if (rows <= limits_.max_range_rows && bytes <= limits_.max_reply_bytes) return OkStatus();
  return Error(StatusCode::kInvalidArgument,
               "{} tokens are {} slices, {} bytes; at most {} and {} in one request", slices.count,
               rows, bytes, limits_.max_range_rows, limits_.max_reply_bytes);
}

}  // namespace passband::server
