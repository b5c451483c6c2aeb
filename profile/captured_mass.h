// Captured mass: chooses chunks jointly. Starting from none, it adds the chunk
// whose addition makes the top tokens of the combined, group-normalised score
// hold the most true attention outside the forced sinks and recent window.
//
// The score is the one the worker computes: from decoded slices, softmax for
// each query head, mean over the group (DESIGN section 7).
//
// Threads  pure.
#pragma once

#include <cstdint>
#include <vector>

#include "profile/calibrate.h"
#include "profile/head_samples.h"

namespace passband {

struct MassChoice {
  std::vector<uint16_t> chunks;  // in the order they were added
  double covered_mass = 0;       // by the chosen chunks, mean over samples
  double best_mass = 0;          // by the true top tokens
};

MassChoice ChooseByCapturedMass(const HeadSamples& samples, const CalibrationOptions& options);

// The mass that a given set of chunks captures, the same measure.
double CapturedMass(const HeadSamples& samples, const std::vector<uint16_t>& chunks,
                    const CalibrationOptions& options);
double BestMass(const HeadSamples& samples, const CalibrationOptions& options);

}  // namespace passband
