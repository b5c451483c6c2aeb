// Contextual agreement (CA): for one chunk, the share of the top-K tokens of
// the full head's scores that the chunk's scores alone rank in their top-K.
//
//   CA_i = | TopK(q . K) and TopK(q_i . K_i) | / K      (arXiv 2602.03152, eq. 4)
//
// averaged over samples and over the query heads of the head's group; the
// paper's Algorithm 1 takes the chunks with the highest mean.
//
// Threads  pure.
#pragma once

#include <cstdint>
#include <vector>

#include "profile/head_samples.h"

namespace passband {

// One value a chunk, 0 to 1.
std::vector<double> ContextualAgreement(const HeadSamples& samples, uint32_t top_k);

// The `count` chunks of highest agreement, best first; of equals the lower.
std::vector<uint16_t> TopChunks(const std::vector<double>& agreement, uint32_t count);

}  // namespace passband
