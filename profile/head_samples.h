// HeadSamples: the captured queries of one head, beside the keys they see, in
// the order calibration scans them.
//
// Units    tokens; a sample is one query position of one document.
// Threads  const use from several threads is safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/slice.h"
#include "profile/calibrate.h"

namespace passband {

class HeadSamples {
 public:
  struct Sample {
    const float* exact = nullptr;       // [head_dim][stride]: the keys
    const float* decoded = nullptr;     // [2 * chunks][stride]: as slices hold them
    size_t stride = 0;                  // tokens of the document
    uint32_t context = 0;               // the query sees tokens [0, context)
    std::vector<const float*> queries;  // one for each query head, [head_dim]
  };

  // Samples of `layer`, kv head `kv_head`, query heads [first_query, + group).
  HeadSamples(std::span<const DocumentCapture> documents, uint32_t layer, uint32_t kv_head,
              uint32_t first_query, uint32_t group, uint32_t query_heads,
              const kernels::SliceSpec& all_chunks);

  std::span<const Sample> samples() const { return samples_; }
  // The recipe of slices that hold every chunk, statistics included.
  const kernels::SliceSpec& all_chunks() const { return all_chunks_; }
  float scale() const;

  // Mean and deviation of every component over the documents' keys.
  static kernels::SliceSpec MeasureAllChunks(std::span<const DocumentCapture> documents,
                                             uint32_t layer, uint32_t kv_head,
                                             const kernels::HeadShape& shape,
                                             kernels::SliceEncoding encoding);

 private:
  kernels::SliceSpec all_chunks_;
  std::vector<std::vector<float>> planes_;
  std::vector<Sample> samples_;
};

// The softmax attention of a sample, averaged over its query heads: [context].
std::vector<float> TrueAttention(const HeadSamples& samples, const HeadSamples::Sample& sample);

}  // namespace passband
