#include "services/worker/device_host.h"

namespace passband {

StatusOr<std::unique_ptr<SequenceHost>> MakeDeviceHost(const LlamaModel&, KvService*,
                                                       std::shared_ptr<const Profile>,
                                                       const DeviceHostOptions&) {
  return Error(StatusCode::kUnimplemented, "this program was built without its CUDA part");
}

}  // namespace passband
