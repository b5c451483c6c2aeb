// Ids that cross folders.
#pragma once

#include "base/strong_id.h"

namespace passband {

// A sequence in the service that stores it.
using SequenceId = StrongId<struct SequenceTag>;

}  // namespace passband
