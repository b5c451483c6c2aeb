#include "services/cli/top/metric_page.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <utility>

namespace passband::top {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
}
bool IsNamePart(char c) { return IsNameStart(c) || (c >= '0' && c <= '9'); }

std::optional<double> ToNumber(std::string_view text) {
  if (text == "+Inf" || text == "Inf") return kInfinity;
  if (text == "-Inf") return -kInfinity;
  if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc() || stop != end || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

// One line, read from left to right.
class LineReader {
 public:
  explicit LineReader(std::string_view line) : left_(line) {}

  bool Take(char c) {
    if (left_.empty() || left_.front() != c) return false;
    left_.remove_prefix(1);
    return true;
  }
  void SkipSpace() {
    while (Take(' ') || Take('\t')) {
    }
  }
  bool Name(std::string& out) {
    size_t size = 0;
    while (size < left_.size() && (size == 0 ? IsNameStart(left_[0]) : IsNamePart(left_[size]))) {
      ++size;
    }
    out = left_.substr(0, size);
    left_.remove_prefix(size);
    return size > 0;
  }
  // "text", with \\, \" and \n.
  bool Quoted(std::string& out) {
    if (!Take('"')) return false;
    out.clear();
    while (!left_.empty()) {
      const char c = left_.front();
      left_.remove_prefix(1);
      if (c == '"') return true;
      if (c != '\\') {
        out += c;
        continue;
      }
      if (Take('n')) {
        out += '\n';
      } else if (Take('\\')) {
        out += '\\';
      } else if (Take('"')) {
        out += '"';
      } else {
        return false;
      }
    }
    return false;
  }
  std::string_view Word() {
    const size_t size = std::min(left_.find_first_of(" \t"), left_.size());
    const std::string_view word = left_.substr(0, size);
    left_.remove_prefix(size);
    return word;
  }
  bool AtEnd() const { return left_.empty(); }

 private:
  std::string_view left_;
};

bool ReadLabels(LineReader& line, MetricPage::Labels& labels) {
  if (!line.Take('{')) return true;
  while (true) {
    line.SkipSpace();
    if (line.Take('}')) return true;
    std::string name, value;
    if (!line.Name(name)) return false;
    line.SkipSpace();
    if (!line.Take('=')) return false;
    line.SkipSpace();
    if (!line.Quoted(value) || !labels.emplace(name, std::move(value)).second) return false;
    line.SkipSpace();
    if (line.Take(',')) continue;
    return line.Take('}');
  }
}

bool ReadSample(std::string_view text, std::string& name, MetricPage::Sample& sample) {
  LineReader line(text);
  if (!line.Name(name) || !ReadLabels(line, sample.labels)) return false;
  line.SkipSpace();
  const std::optional<double> value = ToNumber(line.Word());
  if (!value.has_value()) return false;
  sample.value = *value;
  line.SkipSpace();
  if (!line.AtEnd() && !ToNumber(line.Word()).has_value()) return false;  // a time
  line.SkipSpace();
  return line.AtEnd();
}

bool Carries(const MetricPage::Sample& sample, const MetricPage::Labels& labels) {
  return std::all_of(labels.begin(), labels.end(), [&sample](const auto& label) {
    const auto found = sample.labels.find(label.first);
    return found != sample.labels.end() && found->second == label.second;
  });
}

}  // namespace

double MetricHistogram::total() const {
  double sum = 0;
  for (const double count : counts) sum += count;
  return sum;
}

MetricHistogram MetricHistogram::Since(const MetricHistogram& before) const {
  if (before.bounds != bounds) return *this;
  MetricHistogram out = *this;
  for (size_t i = 0; i < counts.size(); ++i) {
    out.counts[i] -= before.counts[i];
    if (out.counts[i] < 0) return *this;
  }
  return out;
}

double MetricHistogram::Quantile(double share) const {
  const double all = total();
  if (!(all > 0)) return std::numeric_limits<double>::quiet_NaN();
  double below = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (below + counts[i] < share * all || counts[i] == 0) {
      below += counts[i];
      continue;
    }
    const double low = i == 0 ? 0 : bounds[i - 1];
    if (std::isinf(bounds[i])) return low;
    return low + (bounds[i] - low) * (share * all - below) / counts[i];
  }
  return bounds.size() < 2 ? bounds.back() : bounds[bounds.size() - 2];
}

StatusOr<MetricPage> MetricPage::Parse(std::string_view text) {
  if (text.size() > kMaxBytes) {
    return Error(StatusCode::kInvalidArgument, "a page of {} bytes; at most {}", text.size(),
                 kMaxBytes);
  }
  MetricPage page;
  size_t count = 0;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t size = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, size);
    text.remove_prefix(std::min(size + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.front() == '#') continue;
    std::string name;
    Sample sample;
    if (!ReadSample(line, name, sample)) {
      return Error(StatusCode::kInvalidArgument, "line {} is no metric: '{}'", number,
                   line.substr(0, 60));
    }
    if (++count > kMaxSamples) {
      return Error(StatusCode::kInvalidArgument, "more than {} metrics on a page", kMaxSamples);
    }
    page.samples_[name].push_back(std::move(sample));
  }
  return page;
}

std::span<const MetricPage::Sample> MetricPage::of(const std::string& name) const {
  const auto found = samples_.find(name);
  return found == samples_.end() ? std::span<const Sample>() : found->second;
}

double MetricPage::Sum(const std::string& name, const Labels& labels) const {
  double sum = 0;
  for (const Sample& sample : of(name)) {
    if (Carries(sample, labels)) sum += sample.value;
  }
  return sum;
}

MetricHistogram MetricPage::Histogram(const std::string& name, const Labels& labels) const {
  std::map<double, double> cumulative;
  for (const Sample& sample : of(name + "_bucket")) {
    const auto bound = sample.labels.find("le");
    if (bound == sample.labels.end() || !Carries(sample, labels)) continue;
    const std::optional<double> limit = ToNumber(bound->second);
    if (limit.has_value() && !std::isnan(*limit)) cumulative[*limit] += sample.value;
  }
  MetricHistogram out;
  double below = 0;
  for (const auto& [bound, count] : cumulative) {
    out.bounds.push_back(bound);
    out.counts.push_back(std::max(0.0, count - below));
    below = std::max(below, count);
  }
  return out;
}

std::vector<std::string> MetricPage::LabelValues(const std::string& name,
                                                 const std::string& label) const {
  std::set<std::string> values;
  for (const Sample& sample : of(name)) {
    const auto found = sample.labels.find(label);
    if (found != sample.labels.end()) values.insert(found->second);
  }
  return {values.begin(), values.end()};
}

}  // namespace passband::top
