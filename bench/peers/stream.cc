#include "bench/peers/stream.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace passband::bench {
namespace {

constexpr int kSilenceMs = 10'000;
constexpr int kSocketBytes = 4 << 20;

Status Gone() { return Error(StatusCode::kUnavailable, "a peer closed its connection"); }

}  // namespace

Stream::~Stream() {
  if (fd_ >= 0) ::close(fd_);
}

Status Stream::Adopt(int fd, int connected) {
  fd_ = fd;
  if (connected != 0) {
    return Error(StatusCode::kUnavailable, "connect to a peer: {}", std::strerror(errno));
  }
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof(kSocketBytes));
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kSocketBytes, sizeof(kSocketBytes));
  return OkStatus();
}

Status Stream::ConnectTcp(uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return Adopt(fd, ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)));
}

Status Stream::ConnectUnix(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  return Adopt(fd, ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)));
}

Status Stream::Push() {
  while (sent_ < out_.size()) {
    const ssize_t sent =
        ::send(fd_, out_.data() + sent_, out_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return OkStatus();
    if (sent <= 0) return Gone();
    sent_ += static_cast<size_t>(sent);
  }
  out_.clear();
  sent_ = 0;
  return OkStatus();
}

StatusOr<size_t> Stream::Read(std::span<std::byte> to) {
  while (true) {
    if (!out_.empty()) PASSBAND_RETURN_IF_ERROR(Push());
    const ssize_t got = ::recv(fd_, to.data(), to.size(), MSG_DONTWAIT);
    if (got > 0) return static_cast<size_t>(got);
    if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) return Gone();
    pollfd event{fd_, static_cast<short>(out_.empty() ? POLLIN : POLLIN | POLLOUT), 0};
    if (::poll(&event, 1, kSilenceMs) == 0) {
      return Error(StatusCode::kUnavailable, "a peer says nothing");
    }
  }
}

Status Stream::Refill() {
  std::copy(in_.begin() + static_cast<ptrdiff_t>(begin_),
            in_.begin() + static_cast<ptrdiff_t>(end_), in_.begin());
  end_ -= begin_;
  begin_ = 0;
  PASSBAND_ASSIGN_OR_RETURN(const size_t got, Read(std::span(in_).subspan(end_)));
  end_ += got;
  return OkStatus();
}

StatusOr<std::string_view> Stream::Line() {
  while (true) {
    const std::string_view buffered(reinterpret_cast<const char*>(in_.data()) + begin_,
                                    end_ - begin_);
    if (const size_t at = buffered.find('\n'); at != std::string_view::npos) {
      begin_ += at + 1;
      return buffered.substr(0, at == 0 ? 0 : at - 1);
    }
    PASSBAND_RETURN_IF_ERROR(Refill());
  }
}

Status Stream::Take(std::span<std::byte> to) {
  const size_t buffered = std::min(to.size(), end_ - begin_);
  std::memcpy(to.data(), in_.data() + begin_, buffered);
  begin_ += buffered;
  for (size_t at = buffered; at < to.size();) {
    PASSBAND_ASSIGN_OR_RETURN(const size_t got, Read(to.subspan(at)));
    at += got;
  }
  while (end_ - begin_ < 2) PASSBAND_RETURN_IF_ERROR(Refill());
  begin_ += 2;
  return OkStatus();
}

}  // namespace passband::bench
