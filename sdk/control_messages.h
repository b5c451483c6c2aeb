// Records of the control plane's protocol as the SDK hands them on.
//
// Threads  safe; pure.
#pragma once

#include "passband/v1/types.pb.h"
#include "sdk/kv_service.h"

namespace passband {

SequenceStat ToStat(const v1::Sequence& sequence);

}  // namespace passband
