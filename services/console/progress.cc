#include "services/console/progress.h"

#include <algorithm>
#include <chrono>

#include "base/units.h"

namespace passband {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kBarWidth = 24;
constexpr Duration kRedrawEvery = milliseconds(100);
constexpr Duration kLogEvery = seconds(10);

std::string Bar(const Terminal& terminal, double share) {
  const int full = std::clamp(static_cast<int>(share * kBarWidth + 0.5), 0, kBarWidth);
  std::string done, rest;
  for (int i = 0; i < full; ++i) done += "━";
  for (int i = full; i < kBarWidth; ++i) rest += "━";
  return terminal.colours ? terminal.Cyan(done) + terminal.Dim(rest)
                          : done + std::string(static_cast<size_t>(kBarWidth - full), ' ');
}

}  // namespace

Progress::Progress(std::string label, uint64_t total, std::string unit, Options options)
    : label_(std::move(label)),
      total_(total),
      unit_(std::move(unit)),
      options_(options),
      terminal_(Terminal::Of(options.stream)),
      started_(Now()),
      shown_(started_) {}

Progress::~Progress() { Finish(); }

Time Progress::Now() const {
  return options_.clock != nullptr ? options_.clock->Now() : real_clock_.Now();
}

void Progress::Advance(uint64_t count) {
  MutexLock lock(mutex_);
  done_ += count;
  Show();
}

void Progress::Note(const std::string& note) {
  MutexLock lock(mutex_);
  note_ = note;
  Show();
}

void Progress::Finish() {
  MutexLock lock(mutex_);
  if (finished_) return;
  finished_ = true;
  if (drawn_ && terminal_.interactive) {
    std::fputs("\r\033[K", options_.stream);
    std::fflush(options_.stream);
  }
}

void Progress::Show() {
  if (options_.quiet || finished_) return;
  const Time now = Now();
  if (now - shown_ < (terminal_.interactive ? kRedrawEvery : kLogEvery)) return;
  shown_ = now;
  drawn_ = true;
  const std::string line = Line();
  if (terminal_.interactive) {
    fmt::print(options_.stream, "\r{}\033[K", line);
  } else {
    fmt::print(options_.stream, "{}\n", line);
  }
  std::fflush(options_.stream);
}

std::string Progress::Line() const {
  const double elapsed = std::max(1e-9, Seconds(shown_ - started_));
  const double rate = static_cast<double>(done_) / elapsed;
  std::string line = label_ + "  ";
  if (total_ > 0) {
    const double share = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
    if (terminal_.interactive) line += Bar(terminal_, share) + "  ";
    line += fmt::format("{:3.0f}%  {} / {} {}", share * 100, FormatCount(done_),
                        FormatCount(total_), unit_);
  } else {
    line += fmt::format("{} {}", FormatCount(done_), unit_);
  }
  line += rate >= 100 ? fmt::format("  {}/s", FormatCount(static_cast<uint64_t>(rate)))
                      : fmt::format("  {:.1f}/s", rate);
  if (total_ > done_ && done_ > 0) {
    line += "  " + FormatSpan(static_cast<double>(total_ - done_) / rate) + " left";
  }
  return note_.empty() ? line : line + "  " + note_;
}

}  // namespace passband
