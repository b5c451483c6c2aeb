#include "services/server/connection.h"

#include "base/log.h"

namespace passband::server {

void Connection::LogOpened() const {
  log::Info("data_connection_opened", {{"session", fmt::format("{:016x}", session_->id())},
                                       {"tenant", session_->tenant()},
                                       {"client", session_->client()},
                                       {"transport", Name(transport_)}});
}

}  // namespace passband::server
