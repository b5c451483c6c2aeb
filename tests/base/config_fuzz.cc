// Goal: no bytes in a settings file make a program crash or hang as it reads them.
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/config.h"
#include "tests/support/fuzz.h"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  passband::test::BeginWith(argc, argv,
                            {"port: 7\nname: a\n", "# nothing\n", "port: many\n", "nmae: a\n",
                             "port: [1, 2]\n", "name: {a: b}\n", "name: &a b\nport: *a\n"});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int file = ::memfd_create("settings", 0);
  if (::write(file, data, size) == static_cast<ssize_t>(size)) {
    CLI::App app("fuzz");
    passband::AddConfigFlag(app);
    int port = 0;
    std::string name;
    app.add_option("--port", port)->check(CLI::Range(0, 65535));
    app.add_option("--name", name);
    const std::string flag = "--config=/proc/self/fd/" + std::to_string(file);
    const std::array<const char*, 2> argv = {"fuzz", flag.c_str()};
    (void)passband::LoadConfig(app, static_cast<int>(argv.size()), argv.data());
  }
  ::close(file);
  return 0;
}
