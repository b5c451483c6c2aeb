// Exposition: what a page of metrics shows, family by family.
//
// Threads  plain values.
#pragma once

#include <map>
#include <set>
#include <sstream>
#include <string>

namespace passband::testing {

struct Family {
  std::string type, help;
  std::set<std::string> labels;
  bool operator==(const Family&) const = default;
};
using Families = std::map<std::string, Family>;

inline std::string Describe(const Family& family) {
  std::string text = family.type + " {";
  for (const std::string& label : family.labels) text += label + " ";
  return text + "} " + family.help;
}

// "name_bucket" -> "name", where that is a histogram.
inline std::string FamilyOf(const std::string& series, const Families& families) {
  const std::string name = series.substr(0, series.find_first_of("{ "));
  for (const char* suffix : {"_bucket", "_count", "_sum"}) {
    if (!name.ends_with(suffix)) continue;
    const std::string stem = name.substr(0, name.size() - std::string(suffix).size());
    const auto found = families.find(stem);
    if (found != families.end() && found->second.type == "histogram") return stem;
  }
  return name;
}

// Adds what one exposition shows.
inline void AddExposition(const std::string& text, Families& families,
                          std::map<std::string, std::set<std::string>>& values) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("# ", 0) == 0) {
      std::istringstream words(line.substr(2));
      std::string kind, name, rest;
      words >> kind >> name >> std::ws;
      std::getline(words, rest);
      (kind == "TYPE" ? families[name].type : families[name].help) = rest;
      continue;
    }
    const std::string series = line.substr(0, line.rfind(' '));
    const std::string name = FamilyOf(series, families);
    values[name + "|" + series].insert(line.substr(line.rfind(' ') + 1));
    for (size_t at = series.find('{'); at != std::string::npos && at + 1 < series.size();) {
      const size_t equals = series.find("=\"", at);
      if (equals == std::string::npos) break;
      const std::string label = series.substr(at + 1, equals - at - 1);
      if (label != "le") families[name].labels.insert(label);
      at = series.find('"', equals + 2) + 1;
      if (series[at] != ',') break;
    }
  }
}

}  // namespace passband::testing
