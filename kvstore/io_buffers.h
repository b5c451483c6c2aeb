// IoBuffers: buffers for direct I/O, each of one huge page where the kernel has them.
//
// Units      bytes.
// Threads    safe; one leaf mutex.
// Ownership  a Buffer goes back to the pool when it is destroyed, and keeps the pool.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/mutex.h"

namespace passband {

class IoBuffers : public std::enable_shared_from_this<IoBuffers> {
 public:
  static constexpr size_t kBytes = size_t{2} << 20;

  class Buffer {
   public:
    Buffer() = default;
    Buffer(std::shared_ptr<IoBuffers> pool, char* data) : pool_(std::move(pool)), data_(data) {}
    Buffer(Buffer&& other) noexcept { *this = std::move(other); }
    Buffer& operator=(Buffer&& other) noexcept;
    ~Buffer();
    char* data() const { return data_; }
    explicit operator bool() const { return data_ != nullptr; }

   private:
    std::shared_ptr<IoBuffers> pool_;
    char* data_ = nullptr;
  };

  // `kept`: so many buffers are kept for the next.
  explicit IoBuffers(size_t kept) : kept_(kept) {}
  ~IoBuffers();
  IoBuffers(const IoBuffers&) = delete;
  IoBuffers& operator=(const IoBuffers&) = delete;

  // Without data when there is no memory.
  Buffer Get();

 private:
  void GiveBack(char* data);

  const size_t kept_;
  Mutex mutex_;
  std::vector<char*> free_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace passband
