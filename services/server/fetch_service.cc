#include "services/server/fetch_service.h"

#include <utility>

namespace passband::server {

void FetchService::Serve(Request request, const transport::FetchView& fetch) {
  const transport::FetchHeader& header = fetch.header;
  PinnedRows rows;
  const Status resolved = Resolve(request.tenant(), fetch, rows);
  if (!resolved.ok()) return request.Fail(resolved);
  request.connection().counters().selection.Add(header.selected_rows, header.hot_rows,
                                                header.full_attention_bytes);
  const auto serve = [this, row_bytes = header.row_bytes](Request found, PinnedRows its_rows) {
    queue_.Push(std::make_unique<GatherJob>(std::move(found), std::move(its_rows), row_bytes));
  };
  if (missing_.empty()) return serve(std::move(request), std::move(rows));
  const auto wanted = std::make_shared<const Wanted>(std::exchange(wanted_, {}));
  const MissingBlocks missing = std::exchange(missing_, {});
  restores_.Push(
      std::move(request), missing,
      [this, wanted](const Request& waiting, PinnedRows& out, MissingBlocks& more) {
        return store_.Resolve(waiting.tenant(), wanted->groups, out, more);
      },
      serve);
}

Status FetchService::CheckSize(const transport::FetchHeader& header) const {
  const uint64_t bytes = uint64_t{header.row_count} * header.row_bytes;
  if (header.row_count <= limits_.max_rows && bytes <= limits_.max_reply_bytes) return OkStatus();
  return Error(StatusCode::kInvalidArgument, "{} rows, {} bytes in one fetch; at most {} and {}",
               header.row_count, bytes, limits_.max_rows, limits_.max_reply_bytes);
}

Status FetchService::Resolve(const std::string& tenant, const transport::FetchView& fetch,
                             PinnedRows& rows) {
  PASSBAND_RETURN_IF_ERROR(CheckSize(fetch.header));
  PASSBAND_RETURN_IF_ERROR(ReadGroups(tenant, fetch));
  return store_.Resolve(tenant, wanted_.groups, rows, missing_);
}

Status FetchService::ReadGroups(const std::string& tenant, const transport::FetchView& fetch) {
  wanted_.tokens.resize(fetch.header.row_count);
  fetch.tokens().CopyTo(wanted_.tokens.data());
  wanted_.groups.clear();
  size_t first = 0;
  SequenceId checked;
  for (uint32_t i = 0; i < fetch.group_count(); ++i) {
    const transport::FetchGroup group = fetch.group(i);
    const SequenceId id{group.sequence};
    // Groups of one sequence stand together; its shape need not be asked for each.
    if (i == 0 || id != checked) {
      PASSBAND_ASSIGN_OR_RETURN(const KvShape shape, store_.ShapeOf(tenant, id));
      if (shape.row_bytes != fetch.header.row_bytes) {
        return Error(StatusCode::kInvalidArgument, "sequence {} has rows of {} bytes, not {}", id,
                     shape.row_bytes, fetch.header.row_bytes);
      }
      checked = id;
    }
    wanted_.groups.push_back(
        {id, group.layer, group.kv_head, std::span(wanted_.tokens).subspan(first, group.count)});
    first += group.count;
  }
  return OkStatus();
}

}  // namespace passband::server
