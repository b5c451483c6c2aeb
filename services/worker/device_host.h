// MakeDeviceHost: a SequenceHost on a GPU, for a model that is there too.
//
// Threads    one at a time.
// Ownership  borrows model and service, which outlive it.
// Errors     kUnimplemented in a build without CUDA; the device engine's.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "kernels/select.h"
#include "llama/model.h"
#include "profile/profile.h"
#include "sdk/kv_service.h"
#include "services/worker/sequence_host.h"

namespace passband {

struct DeviceHostOptions {
  std::string method = "fasa-m";  // or fasa-c, full
  kernels::SelectOptions select;
  uint32_t hot_rows = 0;
  std::function<void(uint64_t positions)> on_layer;  // of a prompt: for progress
};

// `service` only for fasa-m, `profile` not for full; otherwise they may be null.
StatusOr<std::unique_ptr<SequenceHost>> MakeDeviceHost(const LlamaModel& model, KvService* service,
                                                       std::shared_ptr<const Profile> profile,
                                                       const DeviceHostOptions& options);

// A profile for weights made up at random, whose keys prefer no chunk: the slowest 24.
StatusOr<std::shared_ptr<const Profile>> RandomProfile(const LlamaModel& model);

}  // namespace passband
