// AttachSlices: brings the slices of a cached prefix to a worker; its rows stay
// in the service.
//
// Threads  one at a time for a sequence.
// Errors   what the service says; kInternal when an answer has another size
//          than asked for. The sequence is then to be closed.
#pragma once

#include "sdk/sequence_state.h"

namespace passband {

// Fills the empty slice indexes of `sequence` for tokens [0, tokens).
Status AttachSlices(SequenceState& sequence, uint64_t tokens);

}  // namespace passband
