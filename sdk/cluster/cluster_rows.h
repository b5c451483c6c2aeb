// Answers on their way from one of several servers, or from several at once (PendingRows).
//
// One fetch over sequences of several servers goes out as one request to each, all before any is
// waited for. The parts are put together in the order asked for, which takes one copy; what
// comes from one server alone is handed on where it landed.
//
// Threads    one at a time.
// Ownership  keep their sessions.
// Errors     session.h; of several parts the first that fails, and the others are given up.
#pragma once

#include <memory>

#include "sdk/cluster/session.h"
#include "sdk/cluster/session_book.h"
#include "sdk/kv_service.h"

namespace passband {

// `id`: the caller's, for errors.
std::unique_ptr<PendingRows> ObserveRows(std::shared_ptr<Session> session, SequenceId id,
                                         std::unique_ptr<PendingRows> pending);

std::unique_ptr<PendingRows> StartClusterFetch(const SessionBook& book,
                                               const FetchRequest& request);

}  // namespace passband
