// RequestProof: whether a message is of the session that it names.
//
// Threads  safe.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "base/status.h"
#include "services/server/counters.h"
#include "services/server/session.h"
#include "transport/wire.h"

namespace passband::server {

// kStaleEpoch, kWrongMac or kReplayed; nullopt when `header` (which is of `bytes`) proves itself:
// then its request id is used up. `payload` counts for HELLO and FETCH only.
std::optional<TransportError> FaultOf(Session& session, const transport::RequestHeader& header,
                                      std::span<const std::byte> bytes,
                                      std::span<const std::byte> payload);
// What the sender is told.
Status ToStatus(TransportError fault);

}  // namespace passband::server
