#include "services/cli/top/http_get.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "base/units.h"

namespace passband::top {
namespace {

constexpr size_t kMaxHead = 64 * 1024;

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

class Transfer {
 public:
  explicit Transfer(const HttpRequest& request)
      : request_(request), deadline_(std::chrono::steady_clock::now() + request.timeout) {}

  StatusOr<std::string> Run() {
    PASSBAND_ASSIGN_OR_RETURN(const Socket socket, Connect());
    PASSBAND_RETURN_IF_ERROR(Send(socket));
    PASSBAND_ASSIGN_OR_RETURN(const std::string answer, Receive(socket));
    return Body(answer);
  }

 private:
  template <typename... Args>
  Status Fault(StatusCode code, fmt::format_string<Args...> text, Args&&... args) const {
    return Error(code, "http://{}{}: {}", request_.address, request_.path,
                 fmt::format(text, std::forward<Args>(args)...));
  }

  // Until the socket is ready for `events`.
  Status Await(const Socket& socket, short events) const {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline_ - std::chrono::steady_clock::now());
    std::array<pollfd, 2> both = {pollfd{socket.fd(), events, 0}, pollfd{request_.stop, POLLIN, 0}};
    const int ready =
        ::poll(both.data(), both.size(), static_cast<int>(std::max<int64_t>(0, left.count())));
    if (ready < 0 && errno == EINTR) return Await(socket, events);
    if (ready < 0) return Fault(StatusCode::kInternal, "{}", std::strerror(errno));
    if (both[1].revents != 0) return Fault(StatusCode::kCancelled, "interrupted");
    if (ready == 0) {
      return Fault(StatusCode::kDeadlineExceeded, "no whole answer within {}",
                   FormatSeconds(std::chrono::duration<double>(request_.timeout).count()));
    }
    return OkStatus();
  }

  StatusOr<Socket> Connect() const {
    const size_t colon = request_.address.rfind(':');
    if (colon == std::string::npos) return Fault(StatusCode::kInvalidArgument, "no host:port");
    std::string host = request_.address.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    const addrinfo hints{.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    addrinfo* found = nullptr;
    const int error =
        ::getaddrinfo(host.c_str(), request_.address.c_str() + colon + 1, &hints, &found);
    if (error != 0) return Fault(StatusCode::kUnavailable, "{}", ::gai_strerror(error));
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, ::freeaddrinfo);
    Status last;
    for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
      Socket socket(::socket(each->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      if (socket.fd() < 0) continue;
      last = ConnectTo(socket, *each);
      if (last.ok()) return socket;
      if (last.code() == StatusCode::kCancelled) break;
    }
    return last.ok() ? Fault(StatusCode::kUnavailable, "no address to connect to") : last;
  }

  Status ConnectTo(const Socket& socket, const addrinfo& to) const {
    if (::connect(socket.fd(), to.ai_addr, to.ai_addrlen) == 0) return OkStatus();
    if (errno != EINPROGRESS) {
      return Fault(StatusCode::kUnavailable, "{}", std::strerror(errno));
    }
    PASSBAND_RETURN_IF_ERROR(Await(socket, POLLOUT));
    int error = 0;
    socklen_t size = sizeof(error);
    ::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return Fault(StatusCode::kUnavailable, "{}", std::strerror(error));
    return OkStatus();
  }

  Status Send(const Socket& socket) const {
    // 1.0: the answer ends with the connection, and comes in one piece.
    std::string text = fmt::format("GET {} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n",
                                   request_.path, request_.address);
    while (!text.empty()) {
      const ssize_t sent = ::send(socket.fd(), text.data(), text.size(), MSG_NOSIGNAL);
      if (sent > 0) {
        text.erase(0, static_cast<size_t>(sent));
      } else if (errno == EAGAIN || errno == EINTR) {
        PASSBAND_RETURN_IF_ERROR(Await(socket, POLLOUT));
      } else {
        return Fault(StatusCode::kUnavailable, "{}", std::strerror(errno));
      }
    }
    return OkStatus();
  }

  StatusOr<std::string> Receive(const Socket& socket) const {
    std::string answer;
    std::array<char, 64 * 1024> chunk{};
    while (true) {
      PASSBAND_RETURN_IF_ERROR(Await(socket, POLLIN));
      const ssize_t got = ::recv(socket.fd(), chunk.data(), chunk.size(), 0);
      if (got == 0) return answer;
      if (got < 0 && errno != EAGAIN && errno != EINTR) {
        return Fault(StatusCode::kUnavailable, "{}", std::strerror(errno));
      }
      if (got > 0) answer.append(chunk.data(), static_cast<size_t>(got));
      if (answer.size() > request_.max_bytes + kMaxHead) {
        return Fault(StatusCode::kUnavailable, "an answer of more than {} bytes",
                     request_.max_bytes);
      }
    }
  }

  StatusOr<std::string> Body(const std::string& answer) const {
    const size_t end = answer.find("\r\n\r\n");
    if (!answer.starts_with("HTTP/1.") || end == std::string::npos) {
      return Fault(StatusCode::kUnavailable,
                   "what listens there speaks no HTTP; is it the server's --http-port?");
    }
    const std::string head = answer.substr(0, end + 2);
    const std::string status = head.substr(0, head.find("\r\n"));
    if (status.find(" 200") != status.find(' ')) {
      return Fault(StatusCode::kUnavailable, "answered '{}'", status.substr(0, 60));
    }
    std::string body = answer.substr(end + 4);
    if (const std::optional<uint64_t> length = ContentLength(head);
        length.has_value() && *length != body.size()) {
      return Fault(StatusCode::kUnavailable, "hung up after {} of {} bytes", body.size(), *length);
    }
    if (body.size() > request_.max_bytes) {
      return Fault(StatusCode::kUnavailable, "an answer of more than {} bytes", request_.max_bytes);
    }
    return body;
  }

  static std::optional<uint64_t> ContentLength(const std::string& head) {
    constexpr std::string_view kName = "content-length:";
    for (size_t at = head.find("\r\n"); at + 2 < head.size(); at = head.find("\r\n", at + 2)) {
      const std::string line = head.substr(at + 2, head.find("\r\n", at + 2) - at - 2);
      if (::strncasecmp(line.c_str(), kName.data(), kName.size()) != 0) continue;
      const size_t digit = line.find_first_not_of(" \t", kName.size());
      return digit == std::string::npos ? std::nullopt : ParseCount(line.substr(digit));
    }
    return std::nullopt;
  }

  const HttpRequest& request_;
  const Time deadline_;
};

}  // namespace

StatusOr<std::string> HttpGet(const HttpRequest& request) { return Transfer(request).Run(); }

}  // namespace passband::top
