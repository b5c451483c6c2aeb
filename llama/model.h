// LlamaModel: a checkpoint on the CPU or a GPU, and its forward pass.
//
// The pass is layer-major over a batch of position ranges: all positions go
// through a layer together, its attention is delegated (attention_backend.h),
// then comes the next layer. One Forward call thus makes `layers` Attend calls,
// whether it prefills 8192 positions or decodes one token for each sequence.
//
//   LlamaModel::Load(folder) -> Forward(prompt) -> sample -> Forward(one token) ...
//
// Numbers    weights and activations are float; K and V are rounded to
//            config().kv_dtype before anyone attends to them.
// Memory     4 bytes per parameter, and per Forward about (hidden_size +
//            2 * q_heads * head_dim) * 4 + layer_row_bytes bytes per position.
//            Longer prompts may be fed in pieces.
// Threads    Forward is const and safe from several threads; they take turns
//            on the worker pool, or on the GPU.
// GPU        with Options::device the weights are there only, and the backend's
//            pointers are device memory (device_forward.h).
// Errors     kNotFound, kInvalidArgument, kUnimplemented: the checkpoint
//            (config.h, safetensors.h). Forward: kInvalidArgument for an empty
//            batch or item, a token id out of the vocabulary, or positions
//            past max_positions; otherwise the backend's error.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/mutex.h"
#include "base/status.h"
#include "llama/attention_backend.h"
#include "llama/config.h"
#include "llama/fingerprint.h"
#include "llama/logits.h"
#include "llama/worker_pool.h"

namespace passband {

class DeviceForward;
struct LlamaWeights;

enum class Device : uint8_t { kCpu, kCuda };

// Consecutive positions of one sequence.
struct BatchItem {
  std::span<const uint32_t> token_ids;
  uint64_t first_position = 0;
  uint64_t handle = 0;  // passed on to the backend
  // Logits are wanted for this many last positions: 0 none, 1 the last,
  // token_ids.size() all.
  uint32_t logits = 1;
};

class LlamaModel {
 public:
  struct Options {
    int threads = 0;  // 0: one per core
    Device device = Device::kCpu;
  };

  // `folder` holds config.json and safetensors.
  static StatusOr<std::unique_ptr<LlamaModel>> Load(const std::string& folder, Options options);
  static StatusOr<std::unique_ptr<LlamaModel>> Load(const std::string& folder) {
    return Load(folder, Options());
  }
  // A model of a known shape with weights made up from `seed`, on a GPU, for benchmarks:
  // "llama-3.1-8b". kInvalidArgument lists the shapes.
  static StatusOr<std::unique_ptr<LlamaModel>> Random(const std::string& shape, uint64_t seed,
                                                      Options options);
  ~LlamaModel();
  LlamaModel(const LlamaModel&) = delete;
  LlamaModel& operator=(const LlamaModel&) = delete;

  // Rows of the result: items in order, positions in order within an item.
  StatusOr<Logits> Forward(std::span<const BatchItem> batch, AttentionBackend& backend) const;

  const LlamaConfig& config() const { return config_; }
  const ModelFingerprint& fingerprint() const { return fingerprint_; }
  // The folder's last path component, for people.
  const std::string& name() const { return name_; }
  uint64_t parameters() const;
  // Null on the CPU.
  DeviceForward* device() const { return device_.get(); }
  // The model's threads, for a backend that computes between the layers.
  WorkerPool& pool() const { return *pool_; }

 private:
  LlamaModel();

  std::string name_;
  LlamaConfig config_;
  ModelFingerprint fingerprint_;
  std::unique_ptr<LlamaWeights> weights_;  // null on a GPU
  std::unique_ptr<DeviceForward> device_;
  std::unique_ptr<Mutex> device_mutex_;
  std::unique_ptr<WorkerPool> pool_;
};

}  // namespace passband
