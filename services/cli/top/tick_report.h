// A tick of a server in the three shapes that `passband top` shows: a screen, a line, JSON.
//
// Threads  pure functions.
#pragma once

#include <string>
#include <vector>

#include "services/cli/top/server_tick.h"
#include "services/console/terminal.h"

namespace passband::top {

// Lines without newlines, for a screen of any size: what matters most comes first.
std::vector<std::string> TickScreen(const ServerTick& tick, const std::string& server,
                                    const Terminal& terminal);

// One line, without a newline.
std::string TickLine(const ServerTick& tick);

// One object on one line, without a newline: "schema" is "passband.top/v1"; shares and times
// that nothing happened for are null.
std::string TickJson(const ServerTick& tick, const std::string& server);

}  // namespace passband::top
