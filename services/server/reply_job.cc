#include "services/server/reply_job.h"

#include <algorithm>
#include <utility>

#include "kernels/gather.h"
#include "kernels/slice.h"

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
    : ReplyJob(std::move(for_request), std::move(rows), row_bytes),
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

EncodeJob::EncodeJob(Request for_request, PinnedRows rows, std::shared_ptr<const Profile> profile,
                     uint32_t layer, size_t tokens)
    : ReplyJob(std::move(for_request), std::move(rows), profile->slice_bytes()),
      profile_(std::move(profile)),
      layer_(layer),
      tokens_(tokens),
      stride_(profile_->shape.row_bytes()),
      counters_(request.connection().counters()) {}

void EncodeJob::Fill(size_t first, size_t count, std::byte* out) const {
  const auto rows = rows_.rows();
  const size_t end = first + count;
  while (first < end) {
    const size_t head = first / tokens_;
    // Rows of one head and one block lie next to each other: encode them in one call.
    const size_t limit = std::min(end, (head + 1) * tokens_);
    size_t stop = first + 1;
    while (stop < limit && rows[stop] == rows[stop - 1] + stride_) ++stop;
    kernels::EncodeSlices(*profile_->spec(layer_, static_cast<uint32_t>(head)), rows[first],
                          stride_, stop - first, out);
    out += (stop - first) * row_bytes_;
    first = stop;
  }
}

void EncodeJob::CountSent() const {
  counters_.rows[Index(Method::kSlices)].Add(row_count());
  counters_.slice_bytes.Add(bytes());
}

}  // namespace passband::server
