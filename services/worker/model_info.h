// ModelInfoOf: a loaded checkpoint, as the service and the engine know it.
//
// Threads  a pure function.
#pragma once

#include "llama/model.h"
#include "sdk/kv_service.h"

namespace passband {

inline ModelInfo ModelInfoOf(const LlamaModel& model) {
  const LlamaConfig& config = model.config();
  ModelInfo info;
  info.fingerprint = {model.fingerprint().architecture, model.fingerprint().weights};
  info.name = model.name();
  info.layers = config.layers;
  info.query_heads = config.q_heads;
  info.kv_heads = config.kv_heads;
  info.head = config.head_shape();
  return info;
}

}  // namespace passband
