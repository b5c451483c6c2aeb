#include "services/server/read_service.h"

#include <utility>

namespace passband::server {

void ReadService::Serve(Request request, const transport::ReadHeader& read) {
  PinnedRows rows;
  MissingBlocks missing;
  const StatusOr<KvShape> shape = Resolve(request.tenant(), read, rows, missing);
  if (!shape.ok()) return request.Fail(shape.status());
  const auto serve = [this, row_bytes = shape->row_bytes](Request found, PinnedRows its_rows) {
    queue_.Push(std::make_unique<GatherJob>(std::move(found), std::move(its_rows), row_bytes));
  };
  if (missing.empty()) return serve(std::move(request), std::move(rows));
  restores_.Push(
      std::move(request), missing,
      [this, read](const Request& waiting, PinnedRows& out, MissingBlocks& more) {
        return Resolve(waiting.tenant(), read, out, more).status();
      },
      serve);
}

StatusOr<KvShape> ReadService::Resolve(const std::string& tenant, const transport::ReadHeader& read,
                                       PinnedRows& rows, MissingBlocks& missing) {
  const SequenceId id{read.sequence};
  PASSBAND_ASSIGN_OR_RETURN(const KvShape shape, store_.ShapeOf(tenant, id));
  const uint64_t bytes = uint64_t{read.count} * shape.kv_heads * shape.row_bytes;
  if (bytes > limits_.max_reply_bytes) {
    return Error(StatusCode::kInvalidArgument, "{} tokens are {} bytes; at most {} in one read",
                 read.count, bytes, limits_.max_reply_bytes);
  }
  PASSBAND_RETURN_IF_ERROR(
      store_.ResolveRange(tenant, id, read.layer, read.first_token, read.count, rows, missing));
  return shape;
}

}  // namespace passband::server
