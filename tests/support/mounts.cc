#include "tests/support/mounts.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

namespace passband::test {
namespace {

Status Failed(const char* what) {
  return Error(StatusCode::kFailedPrecondition, "{}: {}", what, std::strerror(errno));
}

}  // namespace

SpillFolder::SpillFolder() {
  std::string path = (std::filesystem::temp_directory_path() / "passband-chaos-XXXXXX").string();
  PASSBAND_CHECK(::mkdtemp(path.data()) != nullptr);
  path_ = path;
}

SpillFolder::~SpillFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Status OwnMounts() {
  if (::unshare(CLONE_NEWNS) != 0) return Failed("a mount namespace (it takes root)");
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return Failed("mounts");
  // Where ip(8) keeps its names.
  ::mkdir("/run/netns", 0755);
  if (::mount("none", "/run/netns", "tmpfs", 0, "size=1m,mode=755") != 0) {
    return Failed("/run/netns");
  }
  return OkStatus();
}

StatusOr<std::unique_ptr<SmallDisk>> SmallDisk::Mount(const std::filesystem::path& at,
                                                      uint64_t bytes) {
  const std::string size = "mode=700,size=" + std::to_string(bytes);
  if (::mount("none", at.c_str(), "tmpfs", 0, size.c_str()) != 0) return Failed("mounting a tmpfs");
  const std::filesystem::path spill = at / "spill";
  ::mkdir(spill.c_str(), 0700);
  return std::unique_ptr<SmallDisk>(new SmallDisk(at));
}

SmallDisk::~SmallDisk() { ::umount2(at_.c_str(), MNT_DETACH); }

Status SmallDisk::Fill() {
  const int fd = ::open(ballast().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return Error(StatusCode::kInternal, "ballast: {}", std::strerror(errno));
  static const std::array<char, 65536> kZeros{};
  ssize_t written = 0;
  do {
    written = ::write(fd, kZeros.data(), kZeros.size());
  } while (written > 0);
  const int error = errno;
  ::close(fd);
  struct statvfs left {};
  if (::statvfs(at_.c_str(), &left) != 0 || left.f_bavail > 0 || error != ENOSPC) {
    return Error(StatusCode::kInternal, "the disk could not be filled: {}", std::strerror(error));
  }
  return OkStatus();
}

Status SmallDisk::Free() {
  if (::unlink(ballast().c_str()) == 0) return OkStatus();
  return Error(StatusCode::kInternal, "ballast: {}", std::strerror(errno));
}

}  // namespace passband::test
