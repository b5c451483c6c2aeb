// Calibrate: chooses the dominant chunks of every head from captured queries
// and keys, and the statistics that the slice encodings need.
//
// Units    tokens; captures are float, after RoPE and after rounding to the
//          stored type.
// Threads  Calibrate runs its own threads and joins them before it returns.
// Errors   kInvalidArgument for captures that do not fit the shape, are too
//          short, or for impossible options.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "kernels/slice.h"
#include "profile/profile.h"

namespace passband {

// Queries and keys of one layer of one document.
struct LayerCapture {
  uint32_t tokens = 0;
  std::vector<float> keys;          // [kv_heads][tokens][head_dim]
  std::vector<uint32_t> positions;  // query token indices, rising, < tokens
  std::vector<float> queries;       // [positions][query_heads][head_dim]
};

// One document: a capture for each layer.
using DocumentCapture = std::vector<LayerCapture>;

struct CalibrationOptions {
  enum class Selector : uint8_t {
    kContextualAgreement,  // the paper's Algorithm 1 (arXiv 2602.03152)
    kCapturedMass,         // greedy joint choice, DESIGN section 7
  };
  Selector selector = Selector::kCapturedMass;
  uint32_t chunks = 24;
  kernels::SliceEncoding encoding = kernels::SliceEncoding::kInt2;
  Profile::Granularity granularity = Profile::Granularity::kKvHead;
  bool adjacent_pairing = false;  // dims (2i, 2i + 1) whatever the layout
  // K: tokens in the compared sets (agreement), or chosen besides the forced
  // ones (captured mass).
  uint32_t top_k = 192;
  uint32_t sinks = 4;
  uint32_t recent = 64;
  unsigned threads = 0;  // 0: one a core
};

// What one head's choice is worth, for tables and pictures.
struct HeadQuality {
  double covered_mass = 0;        // attention mass outside sinks and recent that
                                  // the top tokens of the chosen score hold
  double best_mass = 0;           // the same for the true top tokens
  std::vector<double> agreement;  // contextual agreement of every chunk, or empty
};

struct Calibration {
  std::vector<std::shared_ptr<const kernels::SliceSpec>> specs;  // [layer][head]
  std::vector<HeadQuality> quality;                              // likewise
};

// Called after every finished head, from any thread, one call at a time.
using CalibrationProgress = std::function<void(uint32_t done, uint32_t total)>;

// `shape`, `layers`, head counts: the model's. Documents hold `layers` captures.
StatusOr<Calibration> Calibrate(const kernels::HeadShape& shape, uint32_t layers,
                                uint32_t query_heads, uint32_t kv_heads,
                                std::span<const DocumentCapture> documents,
                                const CalibrationOptions& options,
                                const CalibrationProgress& progress = nullptr);

}  // namespace passband
