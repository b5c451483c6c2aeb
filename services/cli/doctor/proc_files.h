// What the kernel tells in small files: /proc and /sys, or a copy of them in a test.
//
// Threads  safe.
// Errors   none: what cannot be read is empty or absent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace passband::doctor {

class ProcFiles {
 public:
  // `root`: what stands in for /.
  explicit ProcFiles(std::string root) : root_(std::move(root)) {}

  std::string path(const std::string& name) const { return root_ + name; }
  bool Exists(const std::string& name) const;
  // The whole text, without the newline at its end.
  std::string Text(const std::string& name) const;
  std::optional<uint64_t> Number(const std::string& name) const;
  // A line "Name:   123 kB" of a file like /proc/meminfo, in bytes where it says kB.
  std::optional<uint64_t> Line(const std::string& name, const std::string& key) const;
  // Names in a folder, in order.
  std::vector<std::string> Folder(const std::string& name) const;

 private:
  const std::string root_;
};

}  // namespace passband::doctor
