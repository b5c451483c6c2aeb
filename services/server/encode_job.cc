#include "services/server/encode_job.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/slice.h"

namespace passband::server {

EncodeJob::EncodeJob(Request for_request, SliceRange range, SliceCache& cache)
    : ReplyJob(std::move(for_request), size_t{range.wanted.count} * range.profile->kv_heads,
               range.profile->slice_bytes()),
      range_(std::move(range)),
      tokens_(range_.wanted.count),
      stride_(range_.profile->shape.row_bytes()),
      cache_(cache),
      counters_(request.connection().counters()) {}

void EncodeJob::Fill(size_t first, size_t count, std::byte* out) const {
  const uint64_t begin = range_.wanted.first_token;
  const size_t end = first + count;
  while (first < end) {
    const size_t head = first / tokens_;
    const uint64_t token = begin + first % tokens_;
    const size_t row = token % kBlockTokens;
    // Those of one head and one block lie next to each other.
    const size_t run = std::min({end - first, tokens_ - first % tokens_, kBlockTokens - row});
    const size_t block = token / kBlockTokens - begin / kBlockTokens;
    const size_t place = head * kBlockTokens + row;
    if (const auto& slices = range_.known[block]; slices != nullptr) {
      std::memcpy(out, slices->data() + place * row_bytes_, run * row_bytes_);
    } else {
      kernels::EncodeSlices(*range_.profile->spec(range_.wanted.layer, static_cast<uint32_t>(head)),
                            range_.blocks.blocks()[block]->data() + place * stride_, stride_, run,
                            out);
    }
    out += run * row_bytes_;
    first += run;
  }
}

void EncodeJob::NoteFilled() {
  const uint64_t begin = range_.wanted.first_token;
  const size_t run = kBlockTokens * row_bytes_;
  for (size_t i = 0; i < range_.known.size(); ++i) {
    const uint64_t from = (begin / kBlockTokens + i) * kBlockTokens;
    const bool whole = from >= begin && from + kBlockTokens <= begin + tokens_;
    if (range_.known[i] != nullptr || !whole || !range_.blocks.blocks()[i]->frozen()) continue;
    SliceCache::Slices slices(range_.profile->kv_heads * run);
    for (size_t head = 0; head < range_.profile->kv_heads; ++head) {
      std::memcpy(slices.data() + head * run,
                  staged().data() + (head * tokens_ + (from - begin)) * row_bytes_, run);
    }
    cache_.Insert(*range_.blocks.blocks()[i], range_.recipe(), std::move(slices));
  }
}

void EncodeJob::CountSent() const {
  counters_.rows[Index(Method::kSlices)].Add(row_count());
  counters_.slice_bytes.Add(bytes());
}

}  // namespace passband::server
