// PageBuffer: zero-filled memory for rows, in huge pages where it is large
// enough to gain from them.
//
// Units      bytes.
// Threads    a plain value.
// Ownership  of its memory; moves.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>

namespace passband {

class PageBuffer {
 public:
  PageBuffer() = default;
  // Physical memory is taken as pages are first touched.
  explicit PageBuffer(size_t bytes);

  std::byte* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Unmap {
    size_t mapped;
    void operator()(std::byte* data) const;
  };

  size_t size_ = 0;
  std::unique_ptr<std::byte, Unmap> data_;
};

}  // namespace passband
