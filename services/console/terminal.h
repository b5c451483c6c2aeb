// Terminal: what an output stream can show, and text styled for it.
//
// Colours appear on a terminal only, and never when the environment variable
// NO_COLOR is set to anything or TERM is "dumb".
//
// Threads  plain values; pure functions.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

namespace passband {

struct Terminal {
  bool interactive = false;  // a person watches: lines may be redrawn
  bool colours = false;

  // What `stream` is connected to.
  static Terminal Of(std::FILE* stream);

  std::string Bold(std::string_view text) const { return Styled("1", text); }
  std::string Dim(std::string_view text) const { return Styled("2", text); }
  std::string Red(std::string_view text) const { return Styled("31", text); }
  std::string Green(std::string_view text) const { return Styled("32", text); }
  std::string Yellow(std::string_view text) const { return Styled("33", text); }
  std::string Cyan(std::string_view text) const { return Styled("36", text); }

 private:
  std::string Styled(const char* code, std::string_view text) const;
};

// Columns that UTF-8 `text` takes, escape sequences not counted; every other
// code point is one column wide.
size_t DisplayWidth(std::string_view text);

// As much of `text` as fits into so many columns; styles end with it.
std::string ClipToWidth(std::string_view text, size_t width);

}  // namespace passband
