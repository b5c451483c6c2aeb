#include "tests/support/bad_cable.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
#include <queue>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "base/thread.h"

namespace passband::test {
namespace {

using End = Network::End;
using SteadyTime = std::chrono::steady_clock::time_point;

constexpr char kDevice[] = "pbbad";
constexpr size_t kMaxPacket = 65536;
constexpr int kAtOnce = 64;  // packets of one end before the other is looked at
constexpr auto kIdle = std::chrono::milliseconds(20);

// A TUN device on this machine; its name.
StatusOr<int> OpenTun(std::string& name) {
  const int fd = ::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) {
    return Error(StatusCode::kFailedPrecondition, "/dev/net/tun: {}", std::strerror(errno));
  }
  ifreq request{};
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  std::strncpy(request.ifr_name, "pbbad%d", IFNAMSIZ - 1);
  if (::ioctl(fd, TUNSETIFF, &request) != 0) {
    const int error = errno;
    ::close(fd);
    return Error(StatusCode::kFailedPrecondition, "a TUN device: {}", std::strerror(error));
  }
  name = request.ifr_name;
  return fd;
}

}  // namespace

class BadCable::Carrier {
 public:
  explicit Carrier(uint64_t seed) : random_(seed) {}
  ~Carrier() {
    for (const int fd : fds_) {
      if (fd >= 0) ::close(fd);
    }
  }
  Carrier(const Carrier&) = delete;
  Carrier& operator=(const Carrier&) = delete;

  void Attach(End end, int fd) { fds_[Index(end)] = fd; }

  void Set(const Faults& faults) {
    MutexLock lock(mutex_);
    faults_ = faults;
  }
  Counts counts() const {
    MutexLock lock(mutex_);
    return counts_;
  }

  void Run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      DeliverDue();
      std::array<pollfd, 2> fds{pollfd{fds_[0], POLLIN, 0}, pollfd{fds_[1], POLLIN, 0}};
      const timespec timeout = UntilDue();
      ::ppoll(fds.data(), fds.size(), &timeout, nullptr);
      for (size_t from = 0; from < 2; ++from) {
        if ((fds[from].revents & POLLIN) != 0) TakeFrom(from);
      }
    }
  }

 private:
  struct Packet {
    SteadyTime due;
    uint64_t number = 0;  // in the order in which they came
    size_t to = 0;
    std::vector<std::byte> bytes;
    bool operator>(const Packet& other) const { return due > other.due; }
  };

  static size_t Index(End end) { return end == End::kServer ? 0 : 1; }

  bool Strikes(double share) { return std::uniform_real_distribution<>()(random_) < share; }

  void TakeFrom(size_t from) {
    for (int i = 0; i < kAtOnce; ++i) {
      const ssize_t bytes = ::read(fds_[from], buffer_.data(), buffer_.size());
      if (bytes <= 0) return;
      // Neighbour discovery and the like are not between the hosts' addresses.
      if (std::to_integer<int>(buffer_[0]) >> 4 != 4) continue;
      Carry(1 - from, {buffer_.data(), static_cast<size_t>(bytes)});
    }
  }

  void Carry(size_t to, std::span<const std::byte> packet) {
    MutexLock lock(mutex_);
    const uint64_t number = ++counts_.carried;
    if (Strikes(faults_.lost)) {
      ++counts_.lost;
      return;
    }
    int copies = 1;
    if (Strikes(faults_.twice)) {
      ++counts_.twice;
      copies = 2;
    }
    for (; copies > 0; --copies) {
      if (faults_.late_by.count() > 0 && Strikes(faults_.late)) {
        ++counts_.late;
        const auto late = std::chrono::microseconds(
            1 + random_() % static_cast<uint64_t>(faults_.late_by.count()));
        late_.push(
            {std::chrono::steady_clock::now() + late, number, to, {packet.begin(), packet.end()}});
      } else {
        Deliver(to, number, packet);
      }
    }
  }

  void DeliverDue() {
    MutexLock lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    while (!late_.empty() && late_.top().due <= now) {
      const Packet packet = late_.top();
      late_.pop();
      Deliver(packet.to, packet.number, packet.bytes);
    }
  }

  // What a full queue at that end turns away is lost, as anywhere.
  void Deliver(size_t to, uint64_t number, std::span<const std::byte> packet)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (number < newest_[to]) ++counts_.overtaken;
    newest_[to] = std::max(newest_[to], number);
    [[maybe_unused]] const ssize_t bytes = ::write(fds_[to], packet.data(), packet.size());
  }

  timespec UntilDue() const {
    MutexLock lock(mutex_);
    std::chrono::nanoseconds left = kIdle;
    if (!late_.empty()) {
      left = std::clamp<std::chrono::nanoseconds>(
          late_.top().due - std::chrono::steady_clock::now(), std::chrono::nanoseconds(0), left);
    }
    return {.tv_sec = 0, .tv_nsec = left.count()};
  }

  std::array<int, 2> fds_{-1, -1};
  std::array<std::byte, kMaxPacket> buffer_;
  mutable Mutex mutex_;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);
  Faults faults_ ABSL_GUARDED_BY(mutex_);
  Counts counts_ ABSL_GUARDED_BY(mutex_);
  std::array<uint64_t, 2> newest_ ABSL_GUARDED_BY(mutex_){};  // delivered to each end
  std::priority_queue<Packet, std::vector<Packet>, std::greater<>> late_ ABSL_GUARDED_BY(mutex_);
};

StatusOr<std::unique_ptr<BadCable>> BadCable::Create(const Network& network, uint64_t seed) {
  std::unique_ptr<BadCable> out(new BadCable(network));
  PASSBAND_RETURN_IF_ERROR(out->Build(seed));
  return out;
}

Status BadCable::Build(uint64_t seed) {
  carrier_ = std::make_unique<Carrier>(seed);
  for (const End end : {End::kServer, End::kWorker}) {
    std::string name;
    PASSBAND_ASSIGN_OR_RETURN(const int fd, OpenTun(name));
    carrier_->Attach(end, fd);
    PASSBAND_RETURN_IF_ERROR(network_.Move(name, end, kDevice));
    // Its packets come from an address to which another device leads at most times.
    PASSBAND_RETURN_IF_ERROR(network_.RunAt(
        end, {"sh", "-c",
              "for d in all " + std::string(kDevice) +
                  "; do echo 0 > /proc/sys/net/ipv4/conf/$d/rp_filter || exit 1; done"}));
    PASSBAND_RETURN_IF_ERROR(network_.RunAt(end, {"ip", "link", "set", kDevice, "up"}));
  }
  thread_ =
      StartThread("pb-bad-cable", [this](const std::stop_token& stop) { carrier_->Run(stop); });
  return OkStatus();
}

BadCable::BadCable(const Network& network) : network_(network) {}
BadCable::~BadCable() = default;

Status BadCable::Route(const char* verb, End end) const {
  const bool server = end == End::kServer;
  const std::string here = server ? network_.server_host() : network_.worker_host();
  const std::string there = server ? network_.worker_host() : network_.server_host();
  return network_.RunAt(end, {"ip", "route", verb, there + "/32", "dev", kDevice, "src", here});
}

Status BadCable::Use(const Faults& faults) {
  carrier_->Set(faults);
  PASSBAND_RETURN_IF_ERROR(Route("replace", End::kServer));
  return Route("replace", End::kWorker);
}

Status BadCable::Leave() {
  PASSBAND_RETURN_IF_ERROR(Route("del", End::kServer));
  PASSBAND_RETURN_IF_ERROR(Route("del", End::kWorker));
  carrier_->Set({});
  return OkStatus();
}

BadCable::Counts BadCable::counts() const { return carrier_->counts(); }

}  // namespace passband::test
