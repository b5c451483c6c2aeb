#include "services/console/terminal.h"

#include <unistd.h>

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

size_t DisplayWidth(std::string_view text) {
  size_t width = 0;
  bool escape = false;
  for (const char c : text) {
    if (escape) {
      escape = c != 'm';
    } else if (c == '\033') {
      escape = true;
    } else if ((static_cast<unsigned char>(c) & 0xc0U) != 0x80U) {
      ++width;
    }
  }
  return width;
}

}  // namespace passband
