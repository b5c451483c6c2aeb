// ComputeFingerprint: names a checkpoint (base/model_fingerprint.h).
//
// The architecture digest covers every field of LlamaConfig that decides what
// a token's rows are, and the stored element type. The weights digest covers,
// for every tensor in name order, name, element type, shape and bytes: the
// whole tensor up to 1 MiB, otherwise 256 evenly spaced pages of 4 KiB (so that
// it costs milliseconds on a checkpoint of any size).
//
// Threads  safe.
#pragma once

#include <cstdint>
#include <string>

#include "base/model_fingerprint.h"
#include "llama/config.h"
#include "llama/safetensors.h"

namespace passband {

// That of weights made up from a seed (LlamaModel::Random).
ModelFingerprint RandomFingerprint(const LlamaConfig& config, const std::string& shape,
                                   uint64_t seed);

ModelFingerprint ComputeFingerprint(const LlamaConfig& config, const Safetensors& weights);

}  // namespace passband
