// ModelFingerprint: which checkpoint this is, as text that can be compared.
//
//   "<architecture digest>:<weights digest>", 64 hexadecimal digits each
//
// The architecture digest covers every field of LlamaConfig that decides what
// a token's rows are, and the stored element type. The weights digest covers,
// for every tensor in name order, name, element type, shape and bytes: the
// whole tensor up to 1 MiB, otherwise 256 evenly spaced pages of 4 KiB (so that
// it costs milliseconds on a checkpoint of any size).
//
// Threads  a plain value; the function is safe.
#pragma once

#include <string>

#include "llama/config.h"
#include "llama/safetensors.h"

namespace passband {

struct ModelFingerprint {
  std::string architecture;  // 64 hexadecimal digits
  std::string weights;       // 64 hexadecimal digits

  // The whole fingerprint: what is stored and compared.
  std::string text() const { return architecture + ":" + weights; }
  // "1a2b3c4d:5e6f7a8b", for messages.
  std::string short_text() const { return architecture.substr(0, 8) + ":" + weights.substr(0, 8); }
  bool operator==(const ModelFingerprint&) const = default;
};

ModelFingerprint ComputeFingerprint(const LlamaConfig& config, const Safetensors& weights);

}  // namespace passband
