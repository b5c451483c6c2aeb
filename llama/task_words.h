// KeyWords: the words of a text that may be needle keys.
//
// Threads  safe; pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace passband {

// Words of 4 to 9 lower-case letters (a whole run of letters, digits and '_'),
// most frequent first, first seen first among equals. The most frequent are
// left out, 800 or a quarter if the text has few, and so is all past rank 6000.
std::vector<std::string> KeyWords(std::string_view text);

}  // namespace passband
