// What happens to files on a disk: a bit flips, an end is missing, a file is gone.
//
// Threads  one at a time.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace passband::test {

// The files of `folder` that have `part` in their name and are not empty, in order.
inline std::vector<std::string> FilesOf(const std::string& folder, const std::string& part) {
  std::vector<std::string> files;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    const std::string name = file.path().filename().string();
    if (name.find(part) != std::string::npos && file.file_size() > 0) {
      files.push_back(file.path().string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

inline void FlipBitAt(const std::string& path, uint64_t byte, uint64_t bit) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(byte));
  const int old = file.get();
  file.seekp(static_cast<std::streamoff>(byte));
  file.put(static_cast<char>(old ^ 1 << bit % 8));
}

inline void FlipBit(const std::string& path, std::mt19937_64& random) {
  const uint64_t byte = random() % std::filesystem::file_size(path);
  FlipBitAt(path, byte, random());
}

inline void Truncate(const std::string& path, std::mt19937_64& random) {
  std::filesystem::resize_file(path, random() % std::filesystem::file_size(path));
}

inline void Remove(const std::string& path, std::mt19937_64& /*random*/) {
  std::filesystem::remove(path);
}

}  // namespace passband::test
