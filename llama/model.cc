#include "llama/model.h"

#include <filesystem>

#include "llama/forward.h"
#include "llama/safetensors.h"
#include "llama/weights.h"

namespace passband {

LlamaModel::LlamaModel() = default;
LlamaModel::~LlamaModel() = default;

StatusOr<std::unique_ptr<LlamaModel>> LlamaModel::Load(const std::string& folder, Options options) {
  std::unique_ptr<LlamaModel> model(new LlamaModel());
  PASSBAND_ASSIGN_OR_RETURN(model->config_, LoadLlamaConfig(folder));
  PASSBAND_ASSIGN_OR_RETURN(const std::unique_ptr<Safetensors> tensors, Safetensors::Open(folder));
  PASSBAND_ASSIGN_OR_RETURN(LlamaWeights weights, LoadWeights(model->config_, *tensors));
  model->weights_ = std::make_unique<LlamaWeights>(std::move(weights));
  model->fingerprint_ = ComputeFingerprint(model->config_, *tensors);
  const std::filesystem::path path = std::filesystem::path(folder).lexically_normal();
  model->name_ = (path.has_filename() ? path : path.parent_path()).filename().string();
  model->pool_ = std::make_unique<WorkerPool>(options.threads);
  return model;
}

StatusOr<Logits> LlamaModel::Forward(std::span<const BatchItem> batch,
                                     AttentionBackend& backend) const {
  PASSBAND_RETURN_IF_ERROR(CheckBatch(config_, batch));
  ForwardPass pass(config_, *weights_, batch, *pool_);
  for (uint32_t layer = 0; layer < config_.layers; ++layer) {
    pass.ProjectLayer(layer);
    PASSBAND_RETURN_IF_ERROR(backend.Attend({.layer = layer, .items = pass.attend_items()}));
    pass.FinishLayer(layer);
  }
  return pass.Head();
}

uint64_t LlamaModel::parameters() const { return weights_->parameters(); }

}  // namespace passband
