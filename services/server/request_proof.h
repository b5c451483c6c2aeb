// RequestProof: whether a message is of the session that it names.
//
// Threads  safe; pure.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "base/status.h"
#include "services/server/counters.h"
#include "services/server/session.h"
#include "transport/wire.h"

namespace passband::server {

// kStaleEpoch or kWrongMac; nullopt when `header` (which is of `bytes`) proves itself. `payload`
// counts for HELLO and FETCH only.
std::optional<TransportError> FaultOf(const Session& session,
                                      const transport::RequestHeader& header,
                                      std::span<const std::byte> bytes,
                                      std::span<const std::byte> payload);
// What the sender is told.
Status ToStatus(TransportError fault);

}  // namespace passband::server
