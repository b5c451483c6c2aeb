// What fuzz targets share: inputs to begin with, made by code, and fields cut from an input.
//
// Threads  one: libFuzzer calls from its own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace passband::test {

// From LLVMFuzzerInitialize: libFuzzer starts from `seeds`, as from files of a corpus. They are
// gone when the program ends.
inline void BeginWith(int* argc, char*** argv, const std::vector<std::string>& seeds) {
  static std::string folder =
      (std::filesystem::temp_directory_path() / "passband-fuzz-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) std::abort();
  std::atexit([] {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  });
  for (size_t i = 0; i < seeds.size(); ++i) {
    std::ofstream(folder + "/seed-" + std::to_string(i), std::ios::binary) << seeds[i];
  }
  static std::vector<char*> words;
  words.assign(*argv, *argv + *argc);
  words.push_back(folder.data());
  words.push_back(nullptr);
  *argc = static_cast<int>(words.size()) - 1;
  *argv = words.data();
}

inline std::string_view Text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Takes fields off the front of an input; past its end everything is zero or empty.
class Fields {
 public:
  explicit Fields(std::string_view input) : left_(input) {}

  template <typename T>
  T Take() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    std::memcpy(&value, left_.data(), std::min(sizeof(T), left_.size()));
    left_.remove_prefix(std::min(sizeof(T), left_.size()));
    return value;
  }
  // As long as its first byte says.
  std::string TakeText() {
    const size_t size = Take<uint8_t>();
    std::string out(left_.substr(0, size));
    left_.remove_prefix(out.size());
    return out;
  }
  std::string_view Rest() const { return left_; }

 private:
  std::string_view left_;
};

inline void Require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace passband::test
