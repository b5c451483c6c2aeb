// HttpGet: the body of one page of an HTTP server, without encryption.
//
// Units    bytes.
// Threads  safe.
// Errors   kUnavailable       nobody is there, or hangs up early, or answers no page of HTTP, or a
//                             larger one than is allowed
//          kDeadlineExceeded  not all of it came in time
//          kCancelled         `stop` became readable
//          kInvalidArgument   an address that is none
#pragma once

#include <chrono>
#include <string>

#include "base/status.h"

namespace passband::top {

struct HttpRequest {
  std::string address;  // host:port
  std::string path;
  std::chrono::milliseconds timeout{5000};  // for all of it but looking the host's name up
  size_t max_bytes = size_t{16} << 20;
  int stop = -1;  // a descriptor that is readable once nobody wants the page any more; -1: none
};

StatusOr<std::string> HttpGet(const HttpRequest& request);

}  // namespace passband::top
