// RunServer: passband-server as somebody types it, to its end: for starts that are to fail.
//
// Threads  one at a time.
#pragma once

#include <string>

#include "tests/support/program.h"

namespace passband::testing {

// On free ports of the loopback interface. One that starts after all is ended after a while,
// with code 124.
inline test::Outcome RunServer(const std::string& flags) {
  return test::Program(std::string("timeout 60 ") + PASSBAND_SERVER +
                       " --host 127.0.0.1 --control-port 0 --data-port 0 --http-port 0 " + flags +
                       " 2>&1")
      .Finish();
}

}  // namespace passband::testing
