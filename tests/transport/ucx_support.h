// What the UCX tests share: nodes, patterns, and waiting for a condition.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "transport/ucx_context.h"
#include "transport/ucx_endpoint.h"
#include "transport/ucx_worker.h"

namespace passband::transport {

inline std::vector<std::byte> RandomPayload(size_t bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> out(bytes);
  for (auto& byte : out) byte = static_cast<std::byte>(random());
  return out;
}

inline std::span<const std::byte> BytesOf(const std::string& text) {
  return std::as_bytes(std::span(text));
}

inline std::string TextOf(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// UCX's list of transports for the kind that UcxEndpoint::transport_name gives.
inline std::string TlsOf(const std::string& kind) { return kind == "shm" ? "posix" : kind; }

// One end: a worker and its context, as a process would have.
struct Node {
  explicit Node(const std::string& kind, const UcxWorkerOptions& options = {}) {
    UcxOptions ucx;
    ucx.tls = TlsOf(kind);
    auto made = UcxContext::Create(ucx);
    if (!made.ok()) throw std::runtime_error(made.status().ToString());
    context = *made;
    auto worker_made = UcxWorker::Create(context, options);
    if (!worker_made.ok()) throw std::runtime_error(worker_made.status().ToString());
    worker = *worker_made;
  }

  std::unique_ptr<UcxEndpoint> Connect(
      std::span<const std::byte> address, UcxEndpoint::OnError on_error = [](Status) {}) {
    auto endpoint = UcxEndpoint::Connect(worker, address, std::move(on_error));
    if (!endpoint.ok()) throw std::runtime_error(endpoint.status().ToString());
    return *std::move(endpoint);
  }

  std::shared_ptr<UcxContext> context;
  std::shared_ptr<UcxWorker> worker;
};

// Progresses the workers until `condition` holds; false after `limit`.
inline bool Until(std::initializer_list<UcxWorker*> workers, const std::function<bool()>& condition,
                  std::chrono::milliseconds limit = std::chrono::seconds(20)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    for (UcxWorker* worker : workers) worker->Progress();
  }
  return true;
}

// Records what a `done` was given, and how often it ran.
struct Outcome {
  Done Callback() {
    return [this](Status result) {
      ++runs;
      status = std::move(result);
    };
  }
  bool ran() const { return runs > 0; }

  int runs = 0;
  Status status;
};

// Sends a payload that is freed as soon as `done` has run, so that the sanitizer sees
// UCX reading it any later.
inline void SendOwned(UcxEndpoint& endpoint, uint16_t am_id, std::vector<std::byte> payload,
                      SendMode mode, Outcome& outcome) {
  auto owned = std::make_unique<std::vector<std::byte>>(std::move(payload));
  const std::span<const std::byte> bytes(*owned);
  endpoint.Send(am_id, BytesOf("x"), bytes, {.mode = mode},
                [owned = std::move(owned), done = outcome.Callback()](Status status) mutable {
                  owned.reset();
                  std::move(done)(std::move(status));
                });
}

}  // namespace passband::transport
