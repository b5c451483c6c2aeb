// Stream: a pipelined text-protocol connection, as lean as a client can be: writes never
// wait for the peer, what is read is copied once.
//
// hiredis and libmemcached were measured first: requests took 1.0 to 1.7 times as long with
// them, and a peer is to be seen at its best.
//
// Units      bytes.
// Threads    one at a time.
// Errors     kUnavailable: the peer closed, or is silent for ten seconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace passband::bench {

class Stream {
 public:
  Stream() = default;
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Status ConnectTcp(uint16_t port);
  Status ConnectUnix(const std::string& path);

  // What is to be sent; Push() sends of it what the kernel takes now.
  std::string& out() { return out_; }
  Status Push();

  // The next line without its CRLF; valid until the next call.
  StatusOr<std::string_view> Line();
  // The next `to.size()` bytes, and a CRLF after them.
  Status Take(std::span<std::byte> to);

 private:
  Status Adopt(int fd, int connected);
  // Waits until something was read into `to`; sends meanwhile what is left.
  StatusOr<size_t> Read(std::span<std::byte> to);
  Status Refill();

  int fd_ = -1;
  std::string out_;
  size_t sent_ = 0;
  std::vector<std::byte> in_ = std::vector<std::byte>(256 << 10);
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace passband::bench
