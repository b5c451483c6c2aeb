// StartThread: the one door to a new thread. Every thread has a name (15
// characters at most, as ps and gdb show it), an owner and an end.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <thread>

namespace passband {

// The returned jthread asks `body` to stop and joins it when destroyed.
std::jthread StartThread(const std::string& name, std::function<void(std::stop_token)> body);

}  // namespace passband
