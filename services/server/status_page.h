// StatusJson: the numbers of the status page (status_page.html draws them and works out rates).
//
// Units    in the names of the fields.
// Threads  safe.
#pragma once

#include <string>

#include "services/server/probe.h"

namespace passband::server {

std::string StatusJson(const Probe::Sources& sources);

}  // namespace passband::server
