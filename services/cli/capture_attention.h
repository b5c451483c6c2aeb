// CaptureAttention: exact attention that keeps what calibration needs: the
// keys of every layer, and the queries at chosen positions.
//
// Threads    one caller at a time.
// Ownership  owns the captures until Take().
#pragma once

#include <cstdint>
#include <vector>

#include "llama/attention_backend.h"
#include "llama/config.h"
#include "llama/local_attention.h"
#include "llama/worker_pool.h"
#include "profile/calibrate.h"

namespace passband {

class CaptureAttention final : public AttentionBackend {
 public:
  // positions: rising token indices whose queries are kept.
  CaptureAttention(const LlamaConfig& config, WorkerPool& pool, std::vector<uint32_t> positions);

  // Takes documents fed in one item from position 0.
  Status Attend(const AttendArgs& args) override;

  DocumentCapture Take() { return std::move(layers_); }

 private:
  LayerCapture CaptureLayer(const AttendItem& item) const;

  const LlamaConfig config_;
  const std::vector<uint32_t> positions_;
  LocalAttention attention_;
  DocumentCapture layers_;
};

}  // namespace passband
