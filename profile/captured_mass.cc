#include "profile/captured_mass.h"

#include <algorithm>

#include "kernels/select.h"
#include "profile/score_scan.h"

namespace passband {
namespace {

// Evaluates candidate chunks on top of those already accepted.
class MassScan {
 public:
  MassScan(const HeadSamples& samples, const CalibrationOptions& options)
      : samples_(samples),
        select_{options.top_k + options.sinks + options.recent, options.sinks, options.recent} {
    size_t longest = 0;
    for (const HeadSamples::Sample& sample : samples_.samples()) {
      longest = std::max<size_t>(longest, sample.context);
      logits_.emplace_back(sample.queries.size() * sample.context);
      attention_.push_back(TrueAttention(samples_, sample));
    }
    head_.resize(longest);
    score_.resize(longest);
  }

  // Mean mass when `chunk` joins the accepted ones.
  double MassWith(uint16_t chunk) {
    double mass = 0;
    for (size_t s = 0; s < logits_.size(); ++s) mass += SampleMass(s, chunk);
    return mass / static_cast<double>(logits_.size());
  }

  void Accept(uint16_t chunk) {
    for (size_t s = 0; s < logits_.size(); ++s) {
      const HeadSamples::Sample& sample = samples_.samples()[s];
      for (size_t h = 0; h < sample.queries.size(); ++h) {
        float* logits = logits_[s].data() + h * sample.context;
        AddChunk(sample, h, chunk, logits, logits);
      }
    }
  }

  double BestMass() {
    double mass = 0;
    for (const std::vector<float>& attention : attention_) mass += TopMass(attention, attention);
    return mass / static_cast<double>(attention_.size());
  }

 private:
  float AddChunk(const HeadSamples::Sample& sample, size_t head, uint16_t chunk,
                 const float* logits, float* out) const {
    const kernels::SliceSpec& spec = samples_.all_chunks();
    const kernels::ChunkDims dims = kernels::DimsOfChunk(spec.shape, chunk);
    const float* query = sample.queries[head];
    return AddScaledPair(
        logits, query[dims.first] * samples_.scale(),
        sample.decoded + size_t{chunk} * sample.stride, query[dims.second] * samples_.scale(),
        sample.decoded + (spec.chunks.size() + chunk) * sample.stride, sample.context, out);
  }

  double SampleMass(size_t s, uint16_t chunk) {
    const HeadSamples::Sample& sample = samples_.samples()[s];
    std::fill_n(score_.begin(), sample.context, 0.0F);
    for (size_t h = 0; h < sample.queries.size(); ++h) {
      const float* logits = logits_[s].data() + h * sample.context;
      const float largest = AddChunk(sample, h, chunk, logits, head_.data());
      const float sum = ExponentialSum(largest, sample.context, head_.data());
      AddScaled(head_.data(), 1.0F / sum, sample.context, score_.data());
    }
    return TopMass({score_.data(), sample.context}, attention_[s]);
  }

  // True attention held by the selected tokens outside sinks and recent.
  double TopMass(std::span<const float> score, const std::vector<float>& attention) {
    kernels::SelectTokens(score, select_, scratch_, selected_);
    const size_t recent_from = score.size() - std::min<size_t>(score.size(), select_.recent);
    double mass = 0;
    for (const uint32_t token : selected_) {
      if (token >= select_.sinks && token < recent_from) mass += attention[token];
    }
    return mass;
  }

  const HeadSamples& samples_;
  const kernels::SelectOptions select_;
  std::vector<std::vector<float>> logits_;     // [sample][query head][token], accepted chunks
  std::vector<std::vector<float>> attention_;  // [sample][token]
  std::vector<float> head_, score_;
  kernels::SelectScratch scratch_;
  std::vector<uint32_t> selected_;
};

}  // namespace

MassChoice ChooseByCapturedMass(const HeadSamples& samples, const CalibrationOptions& options) {
  MassScan scan(samples, options);
  MassChoice choice;
  choice.best_mass = scan.BestMass();
  std::vector<uint16_t> left = samples.all_chunks().chunks;
  while (choice.chunks.size() < options.chunks && !left.empty()) {
    double best = -1;
    size_t best_at = 0;
    for (size_t i = 0; i < left.size(); ++i) {
      const double mass = scan.MassWith(left[i]);
      if (mass <= best) continue;
      best = mass;
      best_at = i;
    }
    scan.Accept(left[best_at]);
    choice.chunks.push_back(left[best_at]);
    choice.covered_mass = best;
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(best_at));
  }
  return choice;
}

double CapturedMass(const HeadSamples& samples, const std::vector<uint16_t>& chunks,
                    const CalibrationOptions& options) {
  MassScan scan(samples, options);
  for (size_t i = 0; i + 1 < chunks.size(); ++i) scan.Accept(chunks[i]);
  return scan.MassWith(chunks.back());
}

double BestMass(const HeadSamples& samples, const CalibrationOptions& options) {
  return MassScan(samples, options).BestMass();
}

}  // namespace passband
