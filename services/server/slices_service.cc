#include "services/server/slices_service.h"

#include <utility>

namespace passband::server {

void SlicesService::Serve(Request request, const transport::SlicesHeader& slices) {
  PinnedRows rows;
  MissingBlocks missing;
  const auto profile = Resolve(request.tenant(), slices, rows, missing);
  if (!profile.ok()) return request.Fail(profile.status());
  const auto serve = [this, profile = *profile, slices](Request found, PinnedRows its_rows) {
    queue_.Push(std::make_unique<EncodeJob>(std::move(found), std::move(its_rows), profile,
                                            slices.layer, slices.count));
  };
  if (missing.empty()) return serve(std::move(request), std::move(rows));
  restores_.Push(
      std::move(request), missing,
      [this, slices](const Request& waiting, PinnedRows& out, MissingBlocks& more) {
        return Resolve(waiting.tenant(), slices, out, more).status();
      },
      serve);
}

StatusOr<std::shared_ptr<const Profile>> SlicesService::Resolve(
    const std::string& tenant, const transport::SlicesHeader& slices, PinnedRows& rows,
    MissingBlocks& missing) {
  const SequenceId id{slices.sequence};
  std::shared_ptr<const Profile> profile = profiles_.Find(slices.profile);
  if (profile == nullptr) {
    return Error(StatusCode::kNotFound, "profile {} is not registered", slices.profile);
  }
  PASSBAND_RETURN_IF_ERROR(CheckModel(tenant, id, *profile));
  PASSBAND_RETURN_IF_ERROR(CheckSize(slices, *profile));
  PASSBAND_RETURN_IF_ERROR(store_.ResolveRange(tenant, id, slices.layer, slices.first_token,
                                               slices.count, rows, missing));
  return profile;
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
