#include "services/console/terminal.h"

#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace passband {

Terminal Terminal::Of(std::FILE* stream) {
  Terminal terminal;
  const char* term = std::getenv("TERM");
  const bool dumb = term == nullptr || std::string_view(term) == "dumb";
  terminal.interactive = ::isatty(::fileno(stream)) == 1 && !dumb;
  terminal.colours = terminal.interactive && std::getenv("NO_COLOR") == nullptr;
  return terminal;
}

std::string Terminal::Styled(const char* code, std::string_view text) const {
  if (!colours) return std::string(text);
  std::string out = "\033[";
  out.append(code).append("m").append(text).append("\033[0m");
  return out;
}

namespace {

// Columns, and where the text that takes `limit` of them ends.
struct Extent {
  size_t width = 0;
  size_t end = 0;
};

Extent Measure(std::string_view text, size_t limit) {
  Extent extent;
  bool escape = false;
  for (const char c : text) {
    if (escape) {
      escape = c != 'm';
    } else if (c == '\033') {
      escape = true;
    } else if ((static_cast<unsigned char>(c) & 0xc0U) != 0x80U) {
      if (extent.width == limit) return extent;
      ++extent.width;
    }
    ++extent.end;
  }
  return extent;
}

}  // namespace

size_t DisplayWidth(std::string_view text) { return Measure(text, SIZE_MAX).width; }

std::string ClipToWidth(std::string_view text, size_t width) {
  const size_t end = Measure(text, width).end;
  std::string out(text.substr(0, end));
  if (end < text.size() && out.find('\033') != std::string::npos) out += "\033[0m";
  return out;
}

}  // namespace passband
