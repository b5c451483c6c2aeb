#include "services/console/live_screen.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "services/console/terminal.h"

namespace passband {
namespace {

constexpr char kEnter[] = "\033[?1049h\033[?25l";  // the other screen, no cursor
constexpr char kLeave[] = "\033[?25h\033[?1049l";

void Write(const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t wrote = ::write(STDOUT_FILENO, text.data() + done, text.size() - done);
    if (wrote < 0 && errno != EINTR) return;  // nobody looks any more
    if (wrote > 0) done += static_cast<size_t>(wrote);
  }
}

}  // namespace

StatusOr<std::unique_ptr<LiveScreen>> LiveScreen::Open() {
  if (!Terminal::Of(stdout).interactive) {
    return Error(StatusCode::kFailedPrecondition, "standard output is no terminal");
  }
  std::unique_ptr<LiveScreen> screen(new LiveScreen());
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGWINCH, SIGTSTP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, &screen->mask_before_);
  screen->signals_ = ::signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
  PASSBAND_CHECK(screen->signals_ >= 0);
  screen->keys_ =
      ::isatty(STDIN_FILENO) == 1 && ::tcgetattr(STDIN_FILENO, &screen->mode_before_) == 0;
  screen->Enter();
  return screen;
}

LiveScreen::~LiveScreen() {
  Leave();
  signalfd_siginfo info;
  while (::read(signals_, &info, sizeof(info)) > 0) {
  }
  ::close(signals_);
  pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
}

void LiveScreen::Enter() {
  if (keys_) {
    termios mode = mode_before_;
    mode.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &mode);
  }
  Write(kEnter);
}

void LiveScreen::Leave() {
  Write(kLeave);
  if (keys_) ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &mode_before_);
}

void LiveScreen::Draw(std::vector<std::string> lines) {
  lines_ = std::move(lines);
  Redraw();
}

void LiveScreen::Redraw() const {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) {
    size.ws_row = 24;
    size.ws_col = 80;
  }
  std::string text = "\033[H";
  const size_t count = std::min<size_t>(lines_.size(), size.ws_row);
  for (size_t i = 0; i < count; ++i) {
    text += ClipToWidth(lines_[i], size.ws_col) + "\033[K";
    if (i + 1 < count) text += "\r\n";
  }
  Write(text + "\033[J");
}

bool LiveScreen::WaitUntil(Time end, int stop) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - RealClock().Now());
    if (left.count() <= 0) return true;
    std::array<pollfd, 3> entries = {pollfd{stop, POLLIN, 0}, pollfd{signals_, POLLIN, 0},
                                     pollfd{keys_ ? STDIN_FILENO : -1, POLLIN, 0}};
    if (::poll(entries.data(), entries.size(), static_cast<int>(left.count())) <= 0) continue;
    if (entries[0].revents != 0) return false;
    if (entries[1].revents != 0) OnSignal();
    if (entries[2].revents != 0 && !OnKey()) return false;
  }
}

void LiveScreen::OnSignal() {
  signalfd_siginfo info;
  if (::read(signals_, &info, sizeof(info)) != sizeof(info)) return;
  if (info.ssi_signo == SIGTSTP) {
    Leave();
    ::raise(SIGSTOP);
    Enter();
  }
  Redraw();
}

bool LiveScreen::OnKey() {
  char key = 0;
  const ssize_t got = ::read(STDIN_FILENO, &key, 1);
  return got > 0 && key != 'q' && key != 'Q';
}

}  // namespace passband
