#include "services/cli/top/top_loop.h"

#include <cstdio>

#include "base/clock.h"
#include "base/units.h"
#include "services/cli/top/http_get.h"
#include "services/cli/top/server_tick.h"
#include "services/cli/top/tick_report.h"
#include "services/console/live_screen.h"
#include "services/console/terminal.h"

namespace passband::top {
namespace {

class Watch {
 public:
  Watch(const TopOptions& options, const Interruption& interruption)
      : options_(options), interruption_(interruption) {}

  Status Run() {
    PASSBAND_ASSIGN_OR_RETURN(Look first, TakeLook());
    PASSBAND_ASSIGN_OR_RETURN(tick_, MakeTick(first, first));
    last_ = std::move(first);
    due_ = clock_.Now() + options_.interval;
    const bool live = !options_.once && !options_.json && Terminal::Of(stdout).interactive;
    return live ? RunLive() : RunPlain();
  }

 private:
  StatusOr<Look> TakeLook() const {
    PASSBAND_ASSIGN_OR_RETURN(const std::string text, HttpGet({.address = options_.metrics,
                                                               .path = "/metrics",
                                                               .timeout = options_.timeout,
                                                               .stop = interruption_.fd()}));
    auto page = MetricPage::Parse(text);
    if (!page.ok()) {  // Whatever is there, it is no server of ours.
      return Error(StatusCode::kUnavailable, "http://{}/metrics: {}", options_.metrics,
                   Message(page.status()));
    }
    return Look{.page = *std::move(page), .at_seconds = Seconds(clock_.Now().time_since_epoch())};
  }

  // kCancelled when somebody interrupts.
  Status TakeTick() {
    PASSBAND_ASSIGN_OR_RETURN(Look now, TakeLook());
    PASSBAND_ASSIGN_OR_RETURN(tick_, MakeTick(last_, now));
    last_ = std::move(now);
    return OkStatus();
  }

  // Looks that took longer than the interval are not made up for.
  void SetNext() {
    due_ += options_.interval;
    if (const Time now = clock_.Now(); due_ < now) due_ = now;
  }

  Status RunPlain() {
    const uint64_t count = options_.once ? 1 : options_.count;
    for (uint64_t shown = 0; count == 0 || shown < count; ++shown) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(due_ - clock_.Now());
      if (interruption_.Within(left)) return OkStatus();
      const Status status = TakeTick();
      if (status.code() == StatusCode::kCancelled) return OkStatus();
      PASSBAND_RETURN_IF_ERROR(status);
      Print();
      if (std::fflush(stdout) != 0) return OkStatus();  // nobody reads any more
      SetNext();
    }
    return OkStatus();
  }

  void Print() const {
    if (options_.json) {
      fmt::print("{}\n", TickJson(tick_, options_.server));
    } else if (options_.once) {
      const Terminal terminal = Terminal::Of(stdout);
      for (const std::string& line : TickScreen(tick_, options_.server, terminal)) {
        fmt::print("{}\n", line);
      }
    } else {
      fmt::print("{}\n", TickLine(tick_));
    }
  }

  Status RunLive() {
    PASSBAND_ASSIGN_OR_RETURN(const auto screen, LiveScreen::Open());
    Status status;
    for (uint64_t shown = 0; options_.count == 0 || shown < options_.count; ++shown) {
      screen->Draw(Lines(status));
      if (!screen->WaitUntil(due_, interruption_.fd())) return OkStatus();
      status = TakeTick();
      if (status.code() == StatusCode::kCancelled) return OkStatus();
      SetNext();
    }
    return OkStatus();
  }

  std::vector<std::string> Lines(const Status& trouble) const {
    const Terminal terminal = Terminal::Of(stdout);
    std::vector<std::string> lines = TickScreen(tick_, options_.server, terminal);
    if (!trouble.ok()) {
      lines.insert(lines.begin(), terminal.Red("! trying again: " + Message(trouble)));
    }
    lines.emplace_back();
    lines.push_back(
        terminal.Dim(fmt::format("every {}   q quits", FormatSeconds(Seconds(options_.interval)))));
    return lines;
  }

  const TopOptions& options_;
  const Interruption& interruption_;
  const RealClock clock_;
  Look last_;
  ServerTick tick_;
  Time due_;
};

}  // namespace

Status RunTop(const TopOptions& options, const Interruption& interruption) {
  const Status status = Watch(options, interruption).Run();
  return status.code() == StatusCode::kCancelled ? OkStatus() : status;
}

}  // namespace passband::top
