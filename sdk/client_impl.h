// What is behind the public face: a KvService. For the .cc files that implement
// passband/client.h.
//
// Threads    as kv_service.h.
#pragma once

#include <memory>

#include "base/status.h"
#include "passband/client.h"
#include "sdk/kv_service.h"

namespace passband {
class ClusterService;
}

namespace passband::client {

struct Client::Impl {
  std::unique_ptr<KvService> service;
  const ClusterService* servers = nullptr;  // the same; null when embedded
};

inline Status ToPublic(const passband::Status& status) {
  if (status.ok()) return {};
  return {static_cast<Code>(status.code()), Message(status), RetryAfter(status)};
}

}  // namespace passband::client
