#include "services/cli/doctor/proc_files.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace passband::doctor {

bool ProcFiles::Exists(const std::string& name) const {
  std::error_code ignored;
  return std::filesystem::exists(path(name), ignored);
}

std::string ProcFiles::Text(const std::string& name) const {
  std::ifstream file(path(name));
  std::ostringstream text;
  text << file.rdbuf();
  std::string out = std::move(text).str();
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

std::optional<uint64_t> ProcFiles::Number(const std::string& name) const {
  const std::string text = Text(name);
  uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

std::optional<uint64_t> ProcFiles::Line(const std::string& name, const std::string& key) const {
  std::ifstream file(path(name));
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key + ":", 0) != 0) continue;
    std::istringstream words(line.substr(key.size() + 1));
    uint64_t value = 0;
    std::string unit;
    if (!(words >> value)) return std::nullopt;
    words >> unit;
    return unit == "kB" ? value * 1024 : value;
  }
  return std::nullopt;
}

std::vector<std::string> ProcFiles::Folder(const std::string& name) const {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator at(path(name), error), end; !error && at != end;
       at.increment(error)) {
    names.push_back(at->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace passband::doctor
