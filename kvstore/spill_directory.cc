#include "kvstore/spill_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <sstream>

#include "kvstore/spill_format.h"

namespace passband {
namespace {

constexpr char kMarker[] = "PASSBAND-SPILL";
constexpr char kMarkerNew[] = "PASSBAND-SPILL.new";
constexpr char kOwner[] = "OWNER";
constexpr char kProbe[] = "PROBE";
constexpr char kTitle[] = "passband spill directory";
constexpr char kStarted[] = "started";
constexpr char kWhole[] = "whole";

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  const int fd_;
};

using Use = SpillDirectory::Use;

constexpr char kNameIt[] = "Name the directory that a server spilled to with --spill-dir";

Status FromErrno(int error, const std::string& what, Use use = Use::kServe) {
  const bool serve = use == Use::kServe;
  const std::string why = std::strerror(error);
  switch (error) {
    case ENOENT:
      return Error(StatusCode::kNotFound, "{}: {}. {}", what, why,
                   serve ? "Create the directory, or name another with --spill-dir" : kNameIt);
    case EACCES:
    case EPERM:
    case EROFS:
      return Error(StatusCode::kFailedPrecondition, "{}: {}. {}", what, why,
                   serve ? "Give the server's user write access, or name another directory"
                         : "Run this as the server's user");
    case ENOSPC:
    case EDQUOT:
      return Error(StatusCode::kResourceExhausted,
                   "{}: {}. Free space on the device, or name a directory on another", what, why);
    default:
      return Error(StatusCode::kUnavailable, "{}: {}", what, why);
  }
}

std::optional<std::string> ReadSmallFile(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  std::array<char, 512> buffer;
  const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
  if (got < 0) return std::nullopt;
  return std::string(buffer.data(), static_cast<size_t>(got));
}

Status WriteAll(int fd, const std::string& text, const std::string& path) {
  const ssize_t wrote = ::pwrite(fd, text.data(), text.size(), 0);
  if (wrote < 0) return FromErrno(errno, "cannot write " + path);
  if (static_cast<size_t>(wrote) != text.size()) {
    return FromErrno(ENOSPC, "cannot write " + path);
  }
  if (::fsync(fd) != 0) return FromErrno(errno, "cannot write " + path);
  return OkStatus();
}

}  // namespace

StatusOr<std::unique_ptr<SpillDirectory>> SpillDirectory::Open(const std::string& path, Use use) {
  std::unique_ptr<SpillDirectory> directory(new SpillDirectory(path));
  PASSBAND_RETURN_IF_ERROR(directory->CheckDirectory(use));
  // Before the lock, so that nothing is written to somebody else's directory.
  PASSBAND_RETURN_IF_ERROR(directory->ReadMarker(use));
  PASSBAND_RETURN_IF_ERROR(directory->Lock(use));
  // Again: another process may have made it ours, or whole, meanwhile.
  PASSBAND_RETURN_IF_ERROR(directory->ReadMarker(use));
  if (use == Use::kServe && !directory->whole_) {
    PASSBAND_RETURN_IF_ERROR(directory->WriteMarker(kStarted));
  }
  return directory;
}

SpillDirectory::~SpillDirectory() {
  if (owner_fd_ >= 0) ::close(owner_fd_);
}

Status SpillDirectory::CheckDirectory(Use use) const {
  struct stat info;
  if (::stat(path_.c_str(), &info) != 0) {
    return FromErrno(errno, fmt::format("spill directory '{}'", path_), use);
  }
  if (!S_ISDIR(info.st_mode)) {
    return Error(StatusCode::kFailedPrecondition,
                 "spill directory '{}' is not a directory: name one with --spill-dir", path_);
  }
  return OkStatus();
}

Status SpillDirectory::Lock(Use use) {
  const std::string path = path_ + "/" + kOwner;
  const int flags = use == Use::kServe ? O_RDWR | O_CREAT : O_RDONLY;
  owner_fd_ = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
  if (owner_fd_ < 0) {
    // Nobody has ever served from it: there is no one to keep out.
    if (use == Use::kInspect && errno == ENOENT) return OkStatus();
    return FromErrno(errno, fmt::format("spill directory '{}' cannot be locked", path_), use);
  }
  if (::flock(owner_fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return FromErrno(errno, "cannot lock " + path);
    const std::string pid = ReadSmallFile(path).value_or("");
    return Error(StatusCode::kFailedPrecondition,
                 "spill directory '{}' is open in another process (pid {}): stop it, or name "
                 "another directory with --spill-dir",
                 path_, pid.empty() ? "unknown" : pid.substr(0, pid.find('\n')));
  }
  if (use == Use::kInspect) return OkStatus();
  if (::ftruncate(owner_fd_, 0) != 0) return FromErrno(errno, "cannot write " + path);
  return WriteAll(owner_fd_, std::to_string(::getpid()) + "\n", path);
}

Status SpillDirectory::ReadMarker(Use use) {
  const std::string marker = path_ + "/" + kMarker;
  const auto text = ReadSmallFile(marker);
  if (!text.has_value()) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(path_, error)) {
      const std::string name = entry.path().filename().string();
      if (name == "lost+found" || name == kOwner || name == kMarkerNew || name == kProbe) continue;
      return Error(StatusCode::kFailedPrecondition,
                   "'{}' is not a Passband spill directory: it holds '{}' but no readable {}. "
                   "{}",
                   path_, name, kMarker,
                   use == Use::kServe ? "Name an empty directory with --spill-dir" : kNameIt);
    }
    if (error) {
      return FromErrno(error.value(), fmt::format("spill directory '{}' cannot be read", path_),
                       use);
    }
    if (use == Use::kServe) return OkStatus();
    return Error(StatusCode::kNotFound, "'{}' is empty: no server has spilled to it. {}", path_,
                 kNameIt);
  }
  std::istringstream lines(*text);
  std::string title;
  std::string format;
  std::string state;
  std::getline(lines, title);
  std::getline(lines, format);
  std::getline(lines, state);
  const bool known = state == kStarted || state == kWhole;
  if (title == kTitle && format != fmt::format("format {}", kSpillFormat) &&
      format.starts_with("format ") && known) {
    return Error(StatusCode::kFailedPrecondition,
                 "spill directory '{}' was written in {}, this program reads format {}: {}", path_,
                 format, kSpillFormat,
                 use == Use::kServe ? "name another directory, or remove this one's files"
                                    : "take the passband that came with the server that wrote it");
  }
  if (title != kTitle || !format.starts_with("format ") || !known) {
    return Error(StatusCode::kDataLoss,
                 "{} is damaged: if the directory is a spill directory, write to it the lines "
                 "'{}', 'format {}' and '{}'; else name another",
                 marker, kTitle, kSpillFormat, kWhole);
  }
  whole_ = state == kWhole;
  return OkStatus();
}

Status SpillDirectory::WriteMarker(const char* state) const {
  const std::string fresh = path_ + "/" + kMarkerNew;
  const std::string marker = path_ + "/" + kMarker;
  {
    const Fd file(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file) return FromErrno(errno, fmt::format("spill directory '{}'", path_));
    const std::string text = fmt::format("{}\nformat {}\n{}\n", kTitle, kSpillFormat, state);
    PASSBAND_RETURN_IF_ERROR(WriteAll(file.get(), text, fresh));
  }
  if (::rename(fresh.c_str(), marker.c_str()) != 0) {
    return FromErrno(errno, "cannot write " + marker);
  }
  const Fd folder(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder || ::fsync(folder.get()) != 0) return FromErrno(errno, "cannot write " + marker);
  return OkStatus();
}

Status SpillDirectory::MarkWhole() {
  PASSBAND_RETURN_IF_ERROR(WriteMarker(kWhole));
  whole_ = true;
  return OkStatus();
}

bool SpillDirectory::SupportsDirectIo() const {
  constexpr size_t kSector = 4096;
  const std::string path = path_ + "/" + kProbe;
  const Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600));
  bool supported = static_cast<bool>(file);
  if (supported) {
    const std::unique_ptr<void, decltype(&std::free)> page(std::aligned_alloc(kSector, kSector),
                                                           &std::free);
    std::memset(page.get(), 0, kSector);
    supported = ::pwrite(file.get(), page.get(), kSector, 0) == static_cast<ssize_t>(kSector) ||
                errno == ENOSPC;
  }
  ::unlink(path.c_str());
  return supported;
}

}  // namespace passband
