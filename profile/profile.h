// Profile: how to cut slices from one model's keys: the dominant frequency
// chunks of every head, the encoding, and where they came from.
//
// A profile fits one checkpoint, named by its fingerprint, and is refused for
// any other. On disk it is JSON ("passband.profile/v1"); its digest is the
// SHA-256 of the canonical JSON without the digest field.
//
// Threads  immutable after Finish() or Parse(); share it as const.
// Errors   kInvalidArgument malformed or inconsistent JSON, naming the field;
//          kDataLoss the digest does not match;
//          kFailedPrecondition another model's, naming both fingerprints.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/model_fingerprint.h"
#include "base/status.h"
#include "kernels/slice.h"
#include "kernels/types.h"

namespace passband {

class Profile {
 public:
  // For which heads chunks are chosen. kQueryHead is the paper's; it is for
  // evaluation, the engine takes kKvHead.
  enum class Granularity : uint8_t { kKvHead, kQueryHead };

  struct Provenance {
    std::string selector;     // "ca" or "greedy"
    std::string pairing;      // "rope" or "adjacent"
    std::string text_digest;  // SHA-256 of the calibration text
    std::string tool_version;
    uint32_t documents = 0;
    uint32_t context_tokens = 0;
    uint32_t positions = 0;  // query positions used in each document
    uint32_t top_k = 0;      // K of contextual agreement, or of captured mass
    uint64_t seed = 0;
  };

  // Fill, then Finish().
  std::string model_name;
  ModelFingerprint fingerprint;
  kernels::HeadShape shape;
  uint32_t layers = 0;
  uint32_t query_heads = 0;
  uint32_t kv_heads = 0;
  Granularity granularity = Granularity::kKvHead;
  kernels::SliceEncoding encoding = kernels::SliceEncoding::kInt2;
  Provenance provenance;
  // [layer][head] by granularity, row-major: layers * heads_per_layer() specs,
  // all with the same number of chunks.
  std::vector<std::shared_ptr<const kernels::SliceSpec>> specs;

  // Validates and computes the digest.
  Status Finish();

  static StatusOr<std::shared_ptr<const Profile>> Parse(const std::string& json);
  static StatusOr<std::shared_ptr<const Profile>> Load(const std::string& path);
  std::string ToJson() const;
  // Writes atomically (temporary file, then rename).
  Status Save(const std::string& path) const;

  // OK when this profile was made for the checkpoint `model`.
  Status CheckModel(const ModelFingerprint& model) const;

  uint32_t heads_per_layer() const {
    return granularity == Granularity::kKvHead ? kv_heads : query_heads;
  }
  uint32_t chunks() const {
    return specs.empty() ? 0 : static_cast<uint32_t>(specs[0]->chunks.size());
  }
  size_t slice_bytes() const { return specs.empty() ? 0 : specs[0]->slice_bytes(); }
  const std::shared_ptr<const kernels::SliceSpec>& spec(uint32_t layer, uint32_t head) const {
    return specs[layer * heads_per_layer() + head];
  }
  const std::string& digest() const { return digest_; }

 private:
  std::string digest_;
};

// "bf16", "fp8", "int8", "int4", "int2" and back.
std::string EncodingName(kernels::SliceEncoding encoding);
StatusOr<kernels::SliceEncoding> ParseEncoding(const std::string& name);
// "bf16", "f16", "f32" and back; "half", "interleaved" and back.
std::string DTypeName(kernels::DType dtype);
StatusOr<kernels::DType> ParseDType(const std::string& name);
std::string RopeLayoutName(kernels::RopeLayout layout);
StatusOr<kernels::RopeLayout> ParseRopeLayout(const std::string& name);

}  // namespace passband
