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
  queue_.Push(std::make_unique<GatherJob>(std::move(request), std::move(rows), header.row_bytes));
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
  return store_.Resolve(tenant, groups_, rows);
}

Status FetchService::ReadGroups(const std::string& tenant, const transport::FetchView& fetch) {
  tokens_.resize(fetch.header.row_count);
  fetch.tokens().CopyTo(tokens_.data());
  groups_.clear();
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
    groups_.push_back(
        {id, group.layer, group.kv_head, std::span(tokens_).subspan(first, group.count)});
    first += group.count;
  }
  return OkStatus();
}

}  // namespace passband::server
