#include "kernels/cuda/device.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "kernels/cuda/status.h"

namespace passband::kernels::cuda {
namespace {

absl::StatusCode CodeOf(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return absl::StatusCode::kResourceExhausted;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorDevicesUnavailable:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorSystemNotReady:
      return absl::StatusCode::kUnavailable;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return absl::StatusCode::kUnimplemented;
    case cudaErrorInvalidValue:
      return absl::StatusCode::kInvalidArgument;
    default:
      return absl::StatusCode::kInternal;
  }
}

absl::Status OutOfMemory(size_t bytes, MemoryKind kind) {
  std::string text = "cannot allocate " + std::to_string(bytes) + " bytes of ";
  text += kind == MemoryKind::kDevice ? "device memory" : "pinned host memory";
  size_t free = 0;
  size_t total = 0;
  if (kind == MemoryKind::kDevice && cudaMemGetInfo(&free, &total) == cudaSuccess) {
    text += ": " + std::to_string(free) + " of " + std::to_string(total) + " are free";
  }
  return {absl::StatusCode::kResourceExhausted, text};
}

}  // namespace

absl::Status FromCuda(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return {};
  std::string text(what);
  text += ": ";
  text += cudaGetErrorString(error);
  text += " (";
  text += cudaGetErrorName(error);
  text += ")";
  return {CodeOf(error), text};
}

absl::StatusOr<DeviceInfo> CurrentDevice() {
  int device = 0;
  cudaDeviceProp properties = {};
  if (auto status = FromCuda(cudaGetDevice(&device), "no usable CUDA device"); !status.ok()) {
    return status;
  }
  if (auto status = FromCuda(cudaGetDeviceProperties(&properties, device), "CUDA device");
      !status.ok()) {
    return status;
  }
  DeviceInfo info;
  static_assert(sizeof(info.name) == sizeof(properties.name));
  std::memcpy(info.name, properties.name, sizeof(info.name));
  info.major = properties.major;
  info.minor = properties.minor;
  info.multiprocessors = properties.multiProcessorCount;
  info.shared_bytes = properties.sharedMemPerBlockOptin;
  info.memory_bytes = properties.totalGlobalMem;
  return info;
}

absl::StatusOr<Memory> Memory::Allocate(size_t bytes, MemoryKind kind) {
  Memory memory;
  memory.kind_ = kind;
  const size_t least = std::max<size_t>(bytes, 1);
  const cudaError_t error =
      kind == MemoryKind::kDevice
          ? cudaMalloc(&memory.data_, least)
          : cudaHostAlloc(&memory.data_, least, cudaHostAllocMapped | cudaHostAllocPortable);
  if (error == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());  // this one is not sticky, and is reported here
    return OutOfMemory(bytes, kind);
  }
  if (error != cudaSuccess) return FromCuda(error, "allocate memory");
  memory.bytes_ = bytes;
  return memory;
}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(kind_, other.kind_);
  return *this;
}

Memory::~Memory() {
  if (data_ == nullptr) return;
  static_cast<void>(kind_ == MemoryKind::kDevice ? cudaFree(data_) : cudaFreeHost(data_));
}

absl::Status Memory::CopyIn(const void* host, size_t bytes, StreamHandle stream) const {
  if (bytes > bytes_) return absl::OutOfRangeError("copy past the end of device memory");
  return FromCuda(cudaMemcpyAsync(data_, host, bytes, cudaMemcpyDefault, stream), "copy in");
}

absl::Status Memory::CopyOut(void* host, size_t bytes, StreamHandle stream) const {
  if (bytes > bytes_) return absl::OutOfRangeError("copy past the end of device memory");
  return FromCuda(cudaMemcpyAsync(host, data_, bytes, cudaMemcpyDefault, stream), "copy out");
}

absl::Status CopyToDevice(void* device, const void* host, size_t bytes, StreamHandle stream) {
  return FromCuda(cudaMemcpyAsync(device, host, bytes, cudaMemcpyDefault, stream), "copy in");
}

absl::Status CopyToHost(void* host, const void* device, size_t bytes, StreamHandle stream) {
  return FromCuda(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDefault, stream), "copy out");
}

absl::Status Memory::Fill(int byte, StreamHandle stream) const {
  return FromCuda(cudaMemsetAsync(data_, byte, bytes_, stream), "fill memory");
}

absl::StatusOr<Stream> Stream::Create() {
  Stream stream;
  const cudaError_t error = cudaStreamCreateWithFlags(&stream.handle_, cudaStreamNonBlocking);
  if (error != cudaSuccess) return FromCuda(error, "create a stream");
  return stream;
}

Stream& Stream::operator=(Stream&& other) noexcept {
  std::swap(handle_, other.handle_);
  return *this;
}

Stream::~Stream() {
  if (handle_ != nullptr) static_cast<void>(cudaStreamDestroy(handle_));
}

absl::Status Stream::Synchronize() const { return cuda::Synchronize(handle_); }

absl::Status Synchronize(StreamHandle stream) {
  return FromCuda(cudaStreamSynchronize(stream), "work on a stream");
}

absl::StatusOr<Graph> Graph::Capture(const Stream& stream,
                                     const std::function<absl::Status(StreamHandle)>& record) {
  const cudaError_t begun =
      cudaStreamBeginCapture(stream.handle(), cudaStreamCaptureModeThreadLocal);
  if (begun != cudaSuccess) return FromCuda(begun, "begin a graph");
  const absl::Status recorded = record(stream.handle());
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream.handle(), &graph);
  Graph result;
  cudaError_t made = ended;
  if (ended == cudaSuccess && recorded.ok()) {
    made = cudaGraphInstantiate(&result.executable_, graph, 0);
  }
  if (graph != nullptr) static_cast<void>(cudaGraphDestroy(graph));
  if (!recorded.ok()) return recorded;
  if (made != cudaSuccess) return FromCuda(made, "make a graph");
  return result;
}

Graph& Graph::operator=(Graph&& other) noexcept {
  std::swap(executable_, other.executable_);
  return *this;
}

Graph::~Graph() {
  if (executable_ != nullptr) static_cast<void>(cudaGraphExecDestroy(executable_));
}

absl::Status Graph::Launch(StreamHandle stream) const {
  return FromCuda(cudaGraphLaunch(executable_, stream), "launch a graph");
}

}  // namespace passband::kernels::cuda
