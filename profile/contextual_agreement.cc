#include "profile/contextual_agreement.h"

#include <algorithm>
#include <numeric>

#include "kernels/select.h"
#include "profile/score_scan.h"

namespace passband {
namespace {

class AgreementScan {
 public:
  AgreementScan(const HeadSamples& samples, uint32_t top_k)
      : samples_(samples), select_{top_k, 0, 0} {}

  // Adds the agreement of every chunk for one query of one sample.
  void Add(const HeadSamples::Sample& sample, const float* query, std::vector<double>& sums) {
    zeros_.assign(sample.context, 0.0F);
    scores_.resize(sample.context);
    MarkTrueTop(sample, query);
    const kernels::SliceSpec& spec = samples_.all_chunks();
    for (size_t c = 0; c < sums.size(); ++c) {
      const kernels::ChunkDims dims = kernels::DimsOfChunk(spec.shape, static_cast<int>(c));
      AddScaledPair(zeros_.data(), query[dims.first], Key(sample, dims.first), query[dims.second],
                    Key(sample, dims.second), sample.context, scores_.data());
      SelectTop();
      size_t shared = 0;
      for (const uint32_t token : selected_) shared += in_true_top_[token];
      sums[c] += static_cast<double>(shared) / static_cast<double>(selected_.size());
    }
  }

 private:
  static const float* Key(const HeadSamples::Sample& sample, int dim) {
    return sample.exact + static_cast<size_t>(dim) * sample.stride;
  }

  void MarkTrueTop(const HeadSamples::Sample& sample, const float* query) {
    std::fill(scores_.begin(), scores_.end(), 0.0F);
    const int head_dim = samples_.all_chunks().shape.head_dim;
    for (int d = 0; d + 1 < head_dim; d += 2) {
      AddScaledPair(scores_.data(), query[d], Key(sample, d), query[d + 1], Key(sample, d + 1),
                    sample.context, scores_.data());
    }
    SelectTop();
    in_true_top_.assign(sample.context, 0);
    for (const uint32_t token : selected_) in_true_top_[token] = 1;
  }

  // SelectTokens ranks values >= 0, so the scores are shifted up first.
  void SelectTop() {
    const float least = *std::min_element(scores_.begin(), scores_.end());
    for (float& score : scores_) score -= least;
    kernels::SelectTokens(scores_, select_, scratch_, selected_);
  }

  const HeadSamples& samples_;
  const kernels::SelectOptions select_;
  std::vector<float> zeros_, scores_;
  std::vector<uint8_t> in_true_top_;
  kernels::SelectScratch scratch_;
  std::vector<uint32_t> selected_;
};

}  // namespace

std::vector<double> ContextualAgreement(const HeadSamples& samples, uint32_t top_k) {
  std::vector<double> agreement(samples.all_chunks().chunks.size());
  AgreementScan scan(samples, top_k);
  double count = 0;
  for (const HeadSamples::Sample& sample : samples.samples()) {
    for (const float* query : sample.queries) {
      scan.Add(sample, query, agreement);
      ++count;
    }
  }
  for (double& value : agreement) value /= count;
  return agreement;
}

std::vector<uint16_t> TopChunks(const std::vector<double>& agreement, uint32_t count) {
  std::vector<uint16_t> order(agreement.size());
  std::iota(order.begin(), order.end(), uint16_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](uint16_t a, uint16_t b) { return agreement[a] > agreement[b]; });
  order.resize(std::min<size_t>(count, order.size()));
  return order;
}

}  // namespace passband
