// What the GPU's check and benchmark share: vectors in device memory, and an end with a
// message when a call fails.
//
// Threads  one.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"

namespace passband::kernels::cuda {

inline void Require(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "failed: %s\n", std::string(status.message()).c_str());
  std::exit(1);
}
template <class T>
T Require(absl::StatusOr<T> value) {
  Require(value.status());
  return std::move(*value);
}

template <class T>
class Array {
 public:
  Array(const Stream& stream, size_t count, MemoryKind kind = MemoryKind::kDevice)
      : stream_(&stream),
        memory_(Require(Memory::Allocate(count * sizeof(T), kind))),
        count_(count) {}
  Array(const Stream& stream, const std::vector<T>& values, MemoryKind kind = MemoryKind::kDevice)
      : Array(stream, values.size(), kind) {
    Set(values);
  }
  void Set(const std::vector<T>& values) {
    Require(memory_.CopyIn(values.data(), values.size() * sizeof(T), stream_->handle()));
    Require(stream_->Synchronize());
  }
  std::vector<T> Get() const {
    std::vector<T> values(count_);
    Require(memory_.CopyOut(values.data(), count_ * sizeof(T), stream_->handle()));
    Require(stream_->Synchronize());
    return values;
  }
  // Bytes that no result has by chance.
  void Poison() { Require(memory_.Fill(0xcd, stream_->handle())); }
  T* data() const { return memory_.data<T>(); }
  size_t size() const { return count_; }

 private:
  const Stream* stream_;
  Memory memory_;
  size_t count_;
};

}  // namespace passband::kernels::cuda
