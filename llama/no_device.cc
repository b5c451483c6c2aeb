#include "llama/device_forward.h"

namespace passband {
namespace {

Status NotBuilt() {
  return Error(StatusCode::kUnimplemented,
               "this program was built without its CUDA part: install CUDA 13 (nvcc) and build "
               "again, or use --device cpu");
}

}  // namespace

struct DeviceForward::Impl {};

DeviceForward::DeviceForward(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DeviceForward::~DeviceForward() = default;

StatusOr<std::unique_ptr<DeviceForward>> DeviceForward::Create(const LlamaConfig&,
                                                               const LlamaWeights&) {
  return NotBuilt();
}
StatusOr<std::unique_ptr<DeviceForward>> DeviceForward::CreateRandom(const LlamaConfig&, uint64_t) {
  return NotBuilt();
}
StatusOr<Logits> DeviceForward::Forward(std::span<const BatchItem>, AttentionBackend&) {
  return NotBuilt();
}
StatusOr<std::vector<uint32_t>> DeviceForward::ForwardGreedy(std::span<const BatchItem>,
                                                             AttentionBackend&) {
  return NotBuilt();
}
kernels::cuda::StreamHandle DeviceForward::stream() const { return nullptr; }
uint64_t DeviceForward::device_bytes() const { return 0; }
uint64_t DeviceForward::parameters() const { return 0; }

}  // namespace passband
