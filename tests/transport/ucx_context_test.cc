// Goal: UCX runs with Passband's settings unless the operator chose others, and not
// at all with those that corrupt data.
#include <csignal>
#include <cstdlib>

#include "gmock/gmock.h"
#include "tests/transport/ucx_support.h"
#include "transport/net_devices.h"

namespace passband::transport {
namespace {

using testing::HasSubstr;

// An environment variable for as long as it lives.
class ScopedEnv {
 public:
  ScopedEnv(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~ScopedEnv() { unsetenv(name_); }
  ScopedEnv(const ScopedEnv&) = delete;
  ScopedEnv& operator=(const ScopedEnv&) = delete;

 private:
  const char* name_;
};

TEST(UcxContextTest, RefusesSegmentsThatCorruptData) {
  for (const char* name : {"UCX_POSIX_SEG_SIZE", "UCX_MM_SEG_SIZE", "UCX_SEG_SIZE"}) {
    for (const char* size : {"64k", "65536", "1m"}) {
      const ScopedEnv env(name, size);
      const auto context = UcxContext::Create({});
      EXPECT_EQ(context.status().code(), StatusCode::kFailedPrecondition) << name << "=" << size;
      EXPECT_THAT(Message(context.status()), HasSubstr(name));
    }
    const ScopedEnv env(name, "32k");
    EXPECT_TRUE(UcxContext::Create({}).ok()) << name;
  }
}

TEST(UcxContextTest, SaysWhichTransportIsMissing) {
  const auto context = UcxContext::Create({.tls = "no_such_transport"});
  EXPECT_EQ(context.status().code(), StatusCode::kUnavailable) << context.status();
  EXPECT_THAT(Message(context.status()), HasSubstr("no_such_transport"));
}

TEST(UcxContextTest, PrefersSharedMemoryInPeerMode) {
  Node a("auto"), b("auto");
  EXPECT_EQ(a.Connect(b.worker->address())->transport_name(), "shm");
}

TEST(UcxContextTest, LeavesTheOperatorsChoice) {
  const ScopedEnv env("UCX_TLS", "tcp");
  Node a("auto"), b("auto");
  EXPECT_EQ(a.context->tls(), "tcp");
  EXPECT_EQ(a.Connect(b.worker->address())->transport_name(), "tcp");
}

TEST(UcxContextTest, LeavesCrashSignalsAlone) {
  ASSERT_TRUE(UcxContext::Create({}).ok());
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
    struct sigaction current {};
    ASSERT_EQ(sigaction(signal, nullptr, &current), 0);
    EXPECT_EQ(current.sa_handler, SIG_DFL) << signal;
  }
#endif
}

TEST(UcxContextTest, WritesNothingToStandardOutput) {
  testing::internal::CaptureStdout();
  const ScopedEnv env("UCX_KEEPALIVE_INTERVAL", "banana");
  EXPECT_FALSE(UcxContext::Create({}).ok());
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
}

TEST(UcxContextTest, ListensInItsPortRange) {
  const auto context = UcxContext::Create({.tls = "tcp", .tcp_port_range = "30200-30299"});
  ASSERT_TRUE(context.ok()) << context.status();
  const auto worker = UcxWorker::Create(*context);
  ASSERT_TRUE(worker.ok()) << worker.status();
  // The address carries the ports, in network order.
  const auto address = (*worker)->address();
  bool found = false;
  for (size_t i = 0; i + 1 < address.size(); ++i) {
    const int port = (std::to_integer<int>(address[i]) << 8) | std::to_integer<int>(address[i + 1]);
    found |= port >= 30200 && port < 30300;
  }
  EXPECT_TRUE(found);
}

TEST(UcxContextTest, RefusesInterfacesThatAreNotHere) {
  const auto here = NetDevices();
  ASSERT_TRUE(here.ok()) << here.status();
  EXPECT_THAT(*here, testing::Contains("lo"));
  for (const char* names : {"pigeon0", "lo,pigeon0", "pigeon0,lo"}) {
    const auto context = UcxContext::Create({.net_devices = names});
    EXPECT_EQ(context.status().code(), StatusCode::kInvalidArgument) << names;
    EXPECT_THAT(Message(context.status()),
                testing::AllOf(HasSubstr("no interface pigeon0 is up here"), HasSubstr("lo")));
  }
  EXPECT_FALSE(UcxContext::Create({.net_devices = "lo,,"}).ok());
  EXPECT_TRUE(UcxContext::Create({.net_devices = "lo"}).ok());
  EXPECT_TRUE(UcxContext::Create({.net_devices = "all"}).ok());
}

TEST(UcxMemoryTest, KnowsItsBounds) {
  const auto context = UcxContext::Create({});
  ASSERT_TRUE(context.ok());
  std::vector<std::byte> region(1 << 20);
  const auto memory = UcxMemory::Register(*context, region);
  ASSERT_TRUE(memory.ok()) << memory.status();
  const std::span<std::byte> all(region);
  EXPECT_TRUE((*memory)->Contains(all));
  EXPECT_TRUE((*memory)->Contains(all.subspan(100, 200)));
  EXPECT_FALSE((*memory)->Contains({all.data() + 1, all.size()}));
  EXPECT_EQ(UcxMemory::Register(*context, {}).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace passband::transport
