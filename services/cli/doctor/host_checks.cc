#include "services/cli/doctor/host_checks.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sstream>
#include <thread>

#include "base/clock.h"
#include "base/units.h"

namespace passband::doctor {
namespace {

constexpr uint64_t kPiece = 4 * kMiB;
constexpr uint64_t kAlignment = 4096;
constexpr uint64_t kSlowDisk = 200 * kMiB;  // a second: less cannot follow one worker's prefill
constexpr uint64_t kDescriptors = 8192;     // two for each of 4096 sessions

class TrialFile {
 public:
  explicit TrialFile(const std::string& folder)
      : path_(folder + "/.passband-doctor-" + std::to_string(::getpid())) {
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_DIRECT, 0600);
    // Some file systems have no direct IO.
    if (fd_ < 0 && errno == EINVAL) {
      fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    }
    error_ = errno;
  }
  ~TrialFile() {
    if (fd_ < 0) return;
    ::close(fd_);
    ::unlink(path_.c_str());
  }
  TrialFile(const TrialFile&) = delete;
  TrialFile& operator=(const TrialFile&) = delete;

  int fd() const { return fd_; }
  int error() const { return error_; }

 private:
  const std::string path_;
  int fd_ = -1;
  int error_ = 0;
};

struct Speed {
  uint64_t bytes = 0;
  double seconds = 0;
  int error = 0;
  double rate() const { return seconds > 0 ? static_cast<double>(bytes) / seconds : 0; }
};

template <typename Move>
Speed Measure(uint64_t bytes, std::chrono::milliseconds time, const Move& move) {
  const RealClock clock;
  const Time start = clock.Now();
  Speed speed;
  while (speed.bytes < bytes && clock.Now() - start < time) {
    const ssize_t moved = move(speed.bytes);
    if (moved <= 0) {
      speed.error = moved == 0 ? EIO : errno;
      break;
    }
    speed.bytes += static_cast<uint64_t>(moved);
  }
  speed.seconds = Seconds(clock.Now() - start);
  return speed;
}

Finding DiskFinding(const std::string& folder, const Speed& written, const Speed& read) {
  struct statvfs disk {};
  ::statvfs(folder.c_str(), &disk);
  const uint64_t free = uint64_t{disk.f_bavail} * disk.f_frsize;
  const std::string what =
      fmt::format("writes {}/s, reads {}/s, {} free", FormatBytes(written.rate()),
                  FormatBytes(read.rate()), FormatBytes(static_cast<double>(free)));
  if (std::min(written.rate(), read.rate()) >= static_cast<double>(kSlowDisk)) {
    return Pass("disk", what);
  }
  return Warn("disk", what,
              fmt::format("Spill to a faster disk, local NVMe at best: below {}/s appends wait",
                          FormatBytes(static_cast<double>(kSlowDisk))));
}

}  // namespace

Finding CheckProcessors(const ProcFiles& files) {
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  std::istringstream quota(files.Text("/sys/fs/cgroup/cpu.max"));
  double allowed = 0, period = 0;
  std::string what = fmt::format("{} cores", cores);
  if (quota >> allowed >> period && period > 0) {
    allowed /= period;
    what += fmt::format(", {:.1f} allowed by the control group", allowed);
  } else {
    allowed = cores;
  }
  const bool vectors = files.Text("/proc/cpuinfo").find(" avx2") != std::string::npos;
#ifdef __x86_64__
  if (!vectors) {
    return Warn("processors", what + ", without AVX2",
                "Attention and gathering are several times slower here: use another machine");
  }
#else
  (void)vectors;
#endif
  if (allowed >= 2) return Pass("processors", what);
  return Warn("processors", what, "A data thread takes one core when busy, gRPC another: allow 2");
}

Finding CheckFileDescriptors() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const std::string what = fmt::format("{} allowed", FormatCount(limit.rlim_cur));
  if (limit.rlim_cur >= kDescriptors) return Pass("file descriptors", what);
  return Warn("file descriptors", what,
              fmt::format("ulimit -n {}, or LimitNOFILE= of the unit: each worker takes some",
                          kDescriptors));
}

Finding CheckClock() {
  timex state{};
  const int answer = ::adjtimex(&state);
  if (answer < 0) return Skip("clock", fmt::format("cannot be asked: {}", std::strerror(errno)));
  if (answer == TIME_ERROR || (state.status & STA_UNSYNC) != 0) {
    return Warn("clock", "not synchronised",
                "Run chrony or systemd-timesyncd: certificates and logs go by the clock");
  }
  return Pass("clock", fmt::format("synchronised, to about {}",
                                   FormatSeconds(static_cast<double>(state.esterror) * 1e-6)));
}

Finding CheckDisk(const std::string& folder, uint64_t bytes, std::chrono::milliseconds time) {
  if (folder.empty()) return Skip("disk", "no --spill-dir to try");
  const TrialFile file(folder);
  if (file.fd() < 0) {
    return Fail("disk",
                fmt::format("{}: no file can be made: {}", folder, std::strerror(file.error())),
                "Name a folder that exists and that the server's user may write");
  }
  void* memory = nullptr;
  if (::posix_memalign(&memory, kAlignment, kPiece) != 0) {
    return Fail("disk", "no memory for the trial", "Free memory on this machine");
  }
  const std::unique_ptr<void, void (*)(void*)> piece(memory, &std::free);
  std::memset(piece.get(), 0x5a, kPiece);
  Speed written = Measure(bytes, time / 2, [&](uint64_t at) {
    return ::pwrite(file.fd(), piece.get(), kPiece, static_cast<off_t>(at));
  });
  const RealClock clock;
  const Time flushing = clock.Now();
  if (written.error == 0 && ::fdatasync(file.fd()) != 0) written.error = errno;
  written.seconds += Seconds(clock.Now() - flushing);
  if (written.error != 0) {
    return Fail("disk", fmt::format("{}: writing: {}", folder, std::strerror(written.error)),
                "Make room there, or see the kernel's log");
  }
  ::posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED);
  const Speed read = Measure(written.bytes, time / 2, [&](uint64_t at) {
    return ::pread(file.fd(), piece.get(), kPiece, static_cast<off_t>(at));
  });
  if (read.error != 0) {
    return Fail("disk", fmt::format("{}: reading: {}", folder, std::strerror(read.error)),
                "See the kernel's log");
  }
  return DiskFinding(folder, written, read);
}

}  // namespace passband::doctor
