// Device: the few CUDA handles the kernels' callers need, each released by its owner.
//
// Threads    a handle is for one thread at a time; the device is the current one.
// Ownership  move-only; memory must outlive the work on any stream that uses it.
// Errors     a failed call is a Status: kResourceExhausted with the bytes asked for and
//            free when memory is out, kUnavailable without a usable device or driver.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct CUstream_st;
struct CUgraphExec_st;

namespace passband::kernels::cuda {

using StreamHandle = CUstream_st*;  // cudaStream_t

struct DeviceInfo {
  char name[256] = {};
  int major = 0;  // compute capability
  int minor = 0;
  int multiprocessors = 0;
  size_t shared_bytes = 0;  // that one block may have
  size_t memory_bytes = 0;
  bool has_clusters() const { return major >= 9; }
};

// The current device, asked once; an error when there is none.
absl::StatusOr<DeviceInfo> CurrentDevice();

enum class MemoryKind : uint8_t {
  kDevice,
  kPinned,  // host memory that the device reads and writes at the same address
};

class Memory {
 public:
  static absl::StatusOr<Memory> Allocate(size_t bytes, MemoryKind kind = MemoryKind::kDevice);
  Memory() = default;
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory();

  template <class T = std::byte>
  T* data() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

  // Both are ordered in `stream`; `host` must stay until they are done.
  absl::Status CopyIn(const void* host, size_t bytes, StreamHandle stream) const;
  absl::Status CopyOut(void* host, size_t bytes, StreamHandle stream) const;
  absl::Status Fill(int byte, StreamHandle stream) const;

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
  MemoryKind kind_ = MemoryKind::kDevice;
};

// Between host memory and device memory that somebody else owns; ordered in `stream`.
// Host memory that is not pinned is read before CopyToDevice returns.
absl::Status CopyToDevice(void* device, const void* host, size_t bytes, StreamHandle stream);
absl::Status CopyToHost(void* host, const void* device, size_t bytes, StreamHandle stream);

// Waits for all work of the stream, and reports its errors too.
absl::Status Synchronize(StreamHandle stream);

class Stream {
 public:
  static absl::StatusOr<Stream> Create();
  Stream() = default;
  Stream(Stream&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Stream& operator=(Stream&& other) noexcept;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream();

  StreamHandle handle() const { return handle_; }
  // Waits for all work, and reports its errors too.
  absl::Status Synchronize() const;

 private:
  StreamHandle handle_ = nullptr;
};

// Work recorded once and launched as a whole.
class Graph {
 public:
  // `record` enqueues on the given stream and must not wait for it.
  static absl::StatusOr<Graph> Capture(const Stream& stream,
                                       const std::function<absl::Status(StreamHandle)>& record);
  Graph() = default;
  Graph(Graph&& other) noexcept : executable_(std::exchange(other.executable_, nullptr)) {}
  Graph& operator=(Graph&& other) noexcept;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph();

  absl::Status Launch(StreamHandle stream) const;

 private:
  CUgraphExec_st* executable_ = nullptr;
};

}  // namespace passband::kernels::cuda
