#include "services/server/reply_job.h"

#include <utility>

#include "kernels/gather.h"

namespace passband::server {

ReplyJob::~ReplyJob() {
  if (staged_for_ != nullptr) staged_for_->DropStaged(staged().size());
}

void ReplyJob::Stage(Staging::Buffer buffer) {
  buffer_ = std::move(buffer);
  // Kept apart from the request, which gives its connection up before the reply is sent.
  staged_for_ = request.connection().shared_from_this();
  staged_for_->AddStaged(staged().size());
}

GatherJob::GatherJob(Request for_request, PinnedRows rows, size_t row_bytes)
    : ReplyJob(std::move(for_request), rows.rows().size(), row_bytes),
      rows_(std::move(rows)),
      counters_(request.connection().counters()),
      transport_(request.connection().transport()),
      method_(request.method()) {}

void GatherJob::Fill(size_t first, size_t count, std::byte* out) const {
  kernels::GatherRows(rows_.rows().subspan(first, count), row_bytes_, out);
}

void GatherJob::CountSent() const {
  counters_.rows[Index(method_)].Add(row_count());
  if (method_ == Method::kFetch) {
    counters_.fetched_bytes[Index(transport_)].Add(bytes());
  } else {
    counters_.read_bytes.Add(bytes());
  }
}

}  // namespace passband::server
