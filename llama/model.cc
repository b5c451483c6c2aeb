#include "llama/model.h"

#include <filesystem>

#include "llama/device_forward.h"
#include "llama/forward.h"
#include "llama/safetensors.h"
#include "llama/weights.h"

namespace passband {

namespace {

LlamaConfig Llama31Of8B() {
  LlamaConfig config;
  config.model_type = "llama";
  config.layers = 32;
  config.hidden_size = 4096;
  config.intermediate_size = 14336;
  config.q_heads = 32;
  config.kv_heads = 8;
  config.head_dim = 128;
  config.vocab_size = 128256;
  config.max_positions = 131072;
  config.rope.theta = 500000;
  config.rope.scaling = RopeScaling::kLlama3;
  config.rope.factor = 8;
  return config;
}

}  // namespace

LlamaModel::LlamaModel() : device_mutex_(std::make_unique<Mutex>()) {}
LlamaModel::~LlamaModel() = default;

StatusOr<std::unique_ptr<LlamaModel>> LlamaModel::Load(const std::string& folder, Options options) {
  std::unique_ptr<LlamaModel> model(new LlamaModel());
  PASSBAND_ASSIGN_OR_RETURN(model->config_, LoadLlamaConfig(folder));
  PASSBAND_ASSIGN_OR_RETURN(const std::unique_ptr<Safetensors> tensors, Safetensors::Open(folder));
  PASSBAND_ASSIGN_OR_RETURN(LlamaWeights weights, LoadWeights(model->config_, *tensors));
  if (options.device == Device::kCuda) {
    PASSBAND_ASSIGN_OR_RETURN(model->device_, DeviceForward::Create(model->config_, weights));
  } else {
    model->weights_ = std::make_unique<LlamaWeights>(std::move(weights));
  }
  model->fingerprint_ = ComputeFingerprint(model->config_, *tensors);
  const std::filesystem::path path = std::filesystem::path(folder).lexically_normal();
  model->name_ = (path.has_filename() ? path : path.parent_path()).filename().string();
  model->pool_ = std::make_unique<WorkerPool>(options.threads);
  return model;
}

StatusOr<std::unique_ptr<LlamaModel>> LlamaModel::Random(const std::string& shape, uint64_t seed,
                                                         Options options) {
  if (shape != "llama-3.1-8b") {
    return Error(StatusCode::kInvalidArgument,
                 "no shape for random weights is called '{}'; there is llama-3.1-8b", shape);
  }
  if (options.device != Device::kCuda) {
    return Error(StatusCode::kInvalidArgument, "random weights are made on a GPU: --device cuda");
  }
  std::unique_ptr<LlamaModel> model(new LlamaModel());
  model->config_ = Llama31Of8B();
  PASSBAND_ASSIGN_OR_RETURN(model->device_, DeviceForward::CreateRandom(model->config_, seed));
  model->fingerprint_ = RandomFingerprint(model->config_, shape, seed);
  model->name_ = shape + " (random weights)";
  model->pool_ = std::make_unique<WorkerPool>(options.threads);
  return model;
}

StatusOr<Logits> LlamaModel::Forward(std::span<const BatchItem> batch,
                                     AttentionBackend& backend) const {
  PASSBAND_RETURN_IF_ERROR(CheckBatch(config_, batch));
  if (device_ != nullptr) {
    MutexLock lock(*device_mutex_);
    return device_->Forward(batch, backend);
  }
  ForwardPass pass(config_, *weights_, batch, *pool_);
  for (uint32_t layer = 0; layer < config_.layers; ++layer) {
    pass.ProjectLayer(layer);
    PASSBAND_RETURN_IF_ERROR(backend.Attend({.layer = layer, .items = pass.attend_items()}));
    pass.FinishLayer(layer);
  }
  return pass.Head();
}

uint64_t LlamaModel::parameters() const {
  return device_ != nullptr ? device_->parameters() : weights_->parameters();
}

}  // namespace passband
