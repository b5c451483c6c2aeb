// ModelFingerprint: which checkpoint this is, as text that can be compared.
//
//   "<architecture digest>:<weights digest>", 64 hexadecimal digits each
//
// Equal fingerprints mean equal rows for equal tokens. llama/fingerprint.h
// computes it.
#pragma once

#include <string>

namespace passband {

struct ModelFingerprint {
  std::string architecture;  // SHA-256, hexadecimal, over shape and RoPE settings
  std::string weights;       // SHA-256, hexadecimal, over the tensors

  // The whole fingerprint: what is stored, compared and carried.
  std::string text() const { return architecture + ":" + weights; }
  // "1a2b3c4d:5e6f7a8b", for messages.
  std::string short_text() const { return architecture.substr(0, 8) + ":" + weights.substr(0, 8); }
  bool operator==(const ModelFingerprint&) const = default;
};

}  // namespace passband
