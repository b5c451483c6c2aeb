#include "llama/task_words.h"

#include <algorithm>
#include <cstdint>
#include <unordered_map>

namespace passband {
namespace {

constexpr size_t kFirstRank = 800;
constexpr size_t kLastRank = 6000;
constexpr size_t kShortest = 4;
constexpr size_t kLongest = 9;

bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsWordByte(char c) {
  return IsLower(c) || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

struct Count {
  uint64_t times = 0;
  size_t first_seen = 0;
};

std::unordered_map<std::string, Count> CountWords(std::string_view text) {
  std::unordered_map<std::string, Count> counts;
  for (size_t begin = 0; begin < text.size(); ++begin) {
    if (!IsWordByte(text[begin])) continue;
    size_t end = begin;
    bool lower = true;
    for (; end < text.size() && IsWordByte(text[end]); ++end) lower = lower && IsLower(text[end]);
    if (lower && end - begin >= kShortest && end - begin <= kLongest) {
      Count& count = counts[std::string(text.substr(begin, end - begin))];
      if (count.times++ == 0) count.first_seen = begin;
    }
    begin = end;
  }
  return counts;
}

}  // namespace

std::vector<std::string> KeyWords(std::string_view text) {
  const auto counts = CountWords(text);
  std::vector<std::pair<std::string, Count>> ranked(counts.begin(), counts.end());
  std::sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) {
    if (a.second.times != b.second.times) return a.second.times > b.second.times;
    return a.second.first_seen < b.second.first_seen;
  });
  const size_t first = std::min(kFirstRank, ranked.size() / 4);
  std::vector<std::string> out;
  for (size_t i = first; i < std::min(kLastRank, ranked.size()); ++i) {
    out.push_back(ranked[i].first);
  }
  return out;
}

}  // namespace passband
