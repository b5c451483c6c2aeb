#include "profile/calibrate.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <thread>

#include "base/mutex.h"
#include "base/thread.h"
#include "profile/captured_mass.h"
#include "profile/contextual_agreement.h"
#include "profile/head_samples.h"

namespace passband {
namespace {

struct Model {
  kernels::HeadShape shape;
  uint32_t layers, query_heads, kv_heads;
};

Status CheckLayer(const LayerCapture& capture, const Model& model) {
  const size_t head_dim = model.shape.head_dim;
  if (capture.keys.size() != size_t{model.kv_heads} * capture.tokens * head_dim ||
      capture.queries.size() != capture.positions.size() * model.query_heads * head_dim) {
    return Error(StatusCode::kInvalidArgument, "a capture does not fit the model's shape");
  }
  for (const uint32_t position : capture.positions) {
    if (position >= capture.tokens) {
      return Error(StatusCode::kInvalidArgument, "a captured query lies past its document's end");
    }
  }
  return OkStatus();
}

Status CheckInput(std::span<const DocumentCapture> documents, const Model& model,
                  const CalibrationOptions& options) {
  if (options.chunks == 0 || options.chunks > static_cast<uint32_t>(model.shape.chunks())) {
    return Error(StatusCode::kInvalidArgument,
                 "{} chunks asked for; the model has {} to choose from", options.chunks,
                 model.shape.chunks());
  }
  if (options.top_k == 0) return Error(StatusCode::kInvalidArgument, "top-k must be at least 1");
  if (documents.empty()) return Error(StatusCode::kInvalidArgument, "no documents to calibrate on");
  const uint32_t needed = options.top_k + options.sinks + options.recent;
  for (const DocumentCapture& document : documents) {
    if (document.size() != model.layers || document[0].positions.empty()) {
      return Error(StatusCode::kInvalidArgument, "a document has no capture for every layer");
    }
    for (const LayerCapture& capture : document) {
      PASSBAND_RETURN_IF_ERROR(CheckLayer(capture, model));
      if (capture.positions.front() < needed) {
        return Error(StatusCode::kInvalidArgument,
                     "the calibration text is too short: queries see {} tokens, more than {} are "
                     "needed (top-k + sinks + recent)",
                     capture.positions.front() + 1, needed);
      }
    }
  }
  return OkStatus();
}

std::shared_ptr<const kernels::SliceSpec> Restrict(const kernels::SliceSpec& all,
                                                   std::vector<uint16_t> chunks,
                                                   kernels::DType dtype) {
  auto spec = std::make_shared<kernels::SliceSpec>();
  spec->shape = all.shape;
  spec->shape.dtype = dtype;
  spec->encoding = all.encoding;
  std::sort(chunks.begin(), chunks.end());
  for (const size_t half : {size_t{0}, all.chunks.size()}) {
    for (const uint16_t chunk : chunks) {
      spec->mean.push_back(all.mean[half + chunk]);
      spec->deviation.push_back(all.deviation[half + chunk]);
    }
  }
  spec->chunks = std::move(chunks);
  return spec;
}

class Job {
 public:
  Job(const Model& model, std::span<const DocumentCapture> documents,
      const CalibrationOptions& options, const CalibrationProgress& progress)
      : model_(model), documents_(documents), options_(options), progress_(progress) {
    const uint32_t heads = model.layers * heads_per_layer();
    result_.specs.resize(heads);
    result_.quality.resize(heads);
  }

  Calibration Run() {
    const unsigned threads = options_.threads != 0
                                 ? options_.threads
                                 : std::max(1U, std::thread::hardware_concurrency());
    {
      std::vector<std::jthread> workers;
      for (unsigned i = 0; i < threads; ++i) {
        workers.push_back(StartThread("pb-calibrate", [this](const std::stop_token&) { Work(); }));
      }
    }
    return std::move(result_);
  }

 private:
  uint32_t heads_per_layer() const {
    return options_.granularity == Profile::Granularity::kKvHead ? model_.kv_heads
                                                                 : model_.query_heads;
  }

  void Work() {
    const auto total = static_cast<uint32_t>(result_.specs.size());
    for (uint32_t head = next_++; head < total; head = next_++) {
      CalibrateHead(head);
      MutexLock lock(progress_mutex_);
      ++done_;
      if (progress_) progress_(done_, total);
    }
  }

  void CalibrateHead(uint32_t index) {
    const uint32_t layer = index / heads_per_layer();
    const uint32_t head = index % heads_per_layer();
    const uint32_t group = model_.query_heads / model_.kv_heads;
    const bool per_kv_head = options_.granularity == Profile::Granularity::kKvHead;
    const uint32_t kv_head = per_kv_head ? head : head / group;
    kernels::HeadShape shape = model_.shape;
    if (options_.adjacent_pairing) shape.layout = kernels::RopeLayout::kInterleaved;
    const kernels::SliceSpec all =
        HeadSamples::MeasureAllChunks(documents_, layer, kv_head, shape, options_.encoding);
    const HeadSamples samples(documents_, layer, kv_head, per_kv_head ? head * group : head,
                              per_kv_head ? group : 1, model_.query_heads, all);
    std::vector<uint16_t> chunks = Choose(samples, result_.quality[index]);
    result_.specs[index] = Restrict(all, std::move(chunks), model_.shape.dtype);
  }

  std::vector<uint16_t> Choose(const HeadSamples& samples, HeadQuality& quality) const {
    if (options_.selector == CalibrationOptions::Selector::kCapturedMass) {
      MassChoice choice = ChooseByCapturedMass(samples, options_);
      quality.covered_mass = choice.covered_mass;
      quality.best_mass = choice.best_mass;
      return std::move(choice.chunks);
    }
    quality.agreement = ContextualAgreement(samples, options_.top_k);
    std::vector<uint16_t> chunks = TopChunks(quality.agreement, options_.chunks);
    quality.covered_mass = CapturedMass(samples, chunks, options_);
    quality.best_mass = BestMass(samples, options_);
    return chunks;
  }

  const Model model_;
  const std::span<const DocumentCapture> documents_;
  const CalibrationOptions& options_;
  const CalibrationProgress& progress_;
  std::atomic<uint32_t> next_ = 0;
  Mutex progress_mutex_;
  uint32_t done_ ABSL_GUARDED_BY(progress_mutex_) = 0;
  Calibration result_;
};

}  // namespace

StatusOr<Calibration> Calibrate(const kernels::HeadShape& shape, uint32_t layers,
                                uint32_t query_heads, uint32_t kv_heads,
                                std::span<const DocumentCapture> documents,
                                const CalibrationOptions& options,
                                const CalibrationProgress& progress) {
  const Model model{shape, layers, query_heads, kv_heads};
  PASSBAND_RETURN_IF_ERROR(CheckInput(documents, model, options));
  return Job(model, documents, options, progress).Run();
}

}  // namespace passband
