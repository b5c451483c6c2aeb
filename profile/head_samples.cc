#include "profile/head_samples.h"

#include <algorithm>
#include <cmath>

#include "profile/score_scan.h"

namespace passband {
namespace {

const float* KeysOf(const LayerCapture& capture, uint32_t kv_head, uint32_t head_dim) {
  return capture.keys.data() + size_t{kv_head} * capture.tokens * head_dim;
}

std::vector<float> Transpose(const float* rows, size_t tokens, size_t width) {
  std::vector<float> out(tokens * width);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t c = 0; c < width; ++c) out[c * tokens + t] = rows[t * width + c];
  }
  return out;
}

// Every component as a slice would give it back: [component][token].
std::vector<float> DecodedPlanes(const kernels::SliceSpec& spec, const float* keys, size_t tokens) {
  const auto components = static_cast<size_t>(spec.components());
  std::vector<std::byte> slices(tokens * spec.slice_bytes());
  kernels::EncodeSlices(spec, reinterpret_cast<const std::byte*>(keys),
                        spec.shape.head_dim * sizeof(float), tokens, slices.data());
  std::vector<float> rows(tokens * components);
  for (size_t t = 0; t < tokens; ++t) {
    kernels::DecodeSlice(spec, slices.data() + t * spec.slice_bytes(),
                         rows.data() + t * components);
  }
  return Transpose(rows.data(), tokens, components);
}

}  // namespace

kernels::SliceSpec HeadSamples::MeasureAllChunks(std::span<const DocumentCapture> documents,
                                                 uint32_t layer, uint32_t kv_head,
                                                 const kernels::HeadShape& shape,
                                                 kernels::SliceEncoding encoding) {
  kernels::SliceSpec spec;
  spec.shape = shape;
  spec.shape.dtype = kernels::DType::kF32;
  spec.encoding = encoding;
  for (int c = 0; c < shape.chunks(); ++c) spec.chunks.push_back(static_cast<uint16_t>(c));
  const auto chunks = static_cast<size_t>(shape.chunks());
  std::vector<double> sum(2 * chunks), squares(2 * chunks);
  double count = 0;
  for (const DocumentCapture& document : documents) {
    const LayerCapture& capture = document[layer];
    const float* keys = KeysOf(capture, kv_head, shape.head_dim);
    for (size_t t = 0; t < capture.tokens; ++t) {
      for (size_t c = 0; c < 2 * chunks; ++c) {
        const auto dims = kernels::DimsOfChunk(shape, static_cast<int>(c % chunks));
        const double k =
            keys[t * shape.head_dim + static_cast<size_t>(c < chunks ? dims.first : dims.second)];
        sum[c] += k;
        squares[c] += k * k;
      }
    }
    count += capture.tokens;
  }
  for (size_t c = 0; c < 2 * chunks; ++c) {
    const double mean = sum[c] / count;
    const double variance = std::max(squares[c] / count - mean * mean, 0.0);
    spec.mean.push_back(static_cast<float>(mean));
    spec.deviation.push_back(static_cast<float>(std::max(std::sqrt(variance), 1e-6)));
  }
  return spec;
}

HeadSamples::HeadSamples(std::span<const DocumentCapture> documents, uint32_t layer,
                         uint32_t kv_head, uint32_t first_query, uint32_t group,
                         uint32_t query_heads, const kernels::SliceSpec& all_chunks)
    : all_chunks_(all_chunks) {
  const size_t head_dim = all_chunks_.shape.head_dim;
  planes_.reserve(2 * documents.size());
  for (const DocumentCapture& document : documents) {
    const LayerCapture& capture = document[layer];
    const float* keys = KeysOf(capture, kv_head, all_chunks_.shape.head_dim);
    planes_.push_back(Transpose(keys, capture.tokens, head_dim));
    planes_.push_back(DecodedPlanes(all_chunks_, keys, capture.tokens));
    for (size_t p = 0; p < capture.positions.size(); ++p) {
      Sample sample;
      sample.exact = planes_[planes_.size() - 2].data();
      sample.decoded = planes_.back().data();
      sample.stride = capture.tokens;
      sample.context = capture.positions[p] + 1;
      for (uint32_t h = 0; h < group; ++h) {
        sample.queries.push_back(capture.queries.data() +
                                 (p * query_heads + first_query + h) * head_dim);
      }
      samples_.push_back(std::move(sample));
    }
  }
}

float HeadSamples::scale() const {
  return 1.0F / std::sqrt(static_cast<float>(all_chunks_.shape.head_dim));
}

std::vector<float> TrueAttention(const HeadSamples& samples, const HeadSamples::Sample& sample) {
  const size_t head_dim = samples.all_chunks().shape.head_dim;
  std::vector<float> attention(sample.context), logits(sample.context);
  for (const float* query : sample.queries) {
    std::fill(logits.begin(), logits.end(), 0.0F);
    float largest = 0;
    // head_dim is even: RoPE rotates pairs.
    for (size_t d = 0; d + 1 < head_dim; d += 2) {
      largest =
          AddScaledPair(logits.data(), query[d] * samples.scale(), sample.exact + d * sample.stride,
                        query[d + 1] * samples.scale(), sample.exact + (d + 1) * sample.stride,
                        sample.context, logits.data());
    }
    const float sum = ExponentialSum(largest, sample.context, logits.data());
    const float share = 1.0F / (sum * static_cast<float>(sample.queries.size()));
    AddScaled(logits.data(), share, sample.context, attention.data());
  }
  return attention;
}

}  // namespace passband
