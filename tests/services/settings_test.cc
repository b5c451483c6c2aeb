// Goal: settings come from file, environment and flags; everything wrong is told at once.
#include "services/server/settings.h"

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "base/units.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temp_folder.h"

namespace passband::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

StatusOr<Settings> Load(std::vector<const char*> flags) {
  flags.insert(flags.begin(), "passband-server");
  return LoadSettings(static_cast<int>(flags.size()), flags.data());
}

std::string Faults(const std::vector<const char*>& flags) {
  const auto settings = Load(flags);
  EXPECT_EQ(settings.status().code(), StatusCode::kInvalidArgument);
  return Message(settings.status());
}

TEST(SettingsTest, DefaultsAreTheDocumentedOnes) {
  const auto settings = Load({});
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->host, "127.0.0.1");
  EXPECT_EQ(settings->control_port, 50061);
  EXPECT_EQ(settings->data_port, 50062);
  EXPECT_EQ(settings->http_port, 9461);
  EXPECT_EQ(settings->ram_bytes, 4 * kGiB);
  EXPECT_EQ(settings->data_threads, 1U);
  EXPECT_EQ(settings->lease, std::chrono::seconds(30));
  EXPECT_TRUE(settings->huge_pages);
  EXPECT_FALSE(settings->lock_memory);
}

TEST(SettingsTest, FlagsAreRead) {
  const auto settings = Load({"--ram=8GiB", "--control-port", "0", "--lease", "5s",
                              "--huge-pages=false", "--lock-memory", "--data-threads=3"});
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->ram_bytes, 8 * kGiB);
  EXPECT_EQ(settings->control_port, 0);
  EXPECT_EQ(settings->lease, std::chrono::seconds(5));
  EXPECT_FALSE(settings->huge_pages);
  EXPECT_TRUE(settings->lock_memory);
  EXPECT_EQ(settings->data_threads, 3U);
}

TEST(SettingsTest, TenantQuotas) {
  const auto none = Load({});
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(none->tenant_quota.bytes, std::nullopt);
  EXPECT_EQ(none->tenant_quota.sequences, std::nullopt);
  const auto settings = Load({"--tenant-bytes=1GiB", "--tenant-sequences=7",
                              "--tenant-quotas=a=10GiB:1000,b=none:0,c=0B:none"});
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->tenant_quota.bytes, kGiB);
  EXPECT_EQ(settings->tenant_quota.sequences, 7U);
  ASSERT_EQ(settings->tenant_quotas.size(), 3U);
  EXPECT_EQ(settings->tenant_quotas.at("a").bytes, 10 * kGiB);
  EXPECT_EQ(settings->tenant_quotas.at("a").sequences, 1000U);
  EXPECT_EQ(settings->tenant_quotas.at("b").bytes, std::nullopt);
  EXPECT_EQ(settings->tenant_quotas.at("b").sequences, 0U);
  EXPECT_EQ(settings->tenant_quotas.at("c").bytes, 0U);
  EXPECT_EQ(settings->tenant_quotas.at("c").sequences, std::nullopt);
}

TEST(SettingsTest, WrongTenantQuotasAreToldAtOnce) {
  const std::string faults =
      Faults({"--tenant-bytes=much", "--tenant-sequences=-1",
              "--tenant-quotas=a=1GiB,b/c=1GiB:1,d=x:y,e=1B:1,e=1B:1,=1B:1"});
  for (const char* part : {"--tenant-bytes", "--tenant-sequences '-1'", "'a=1GiB'", "'b/c=1GiB:1'",
                           "--tenant-quotas 'y'", "names tenant e twice", "'=1B:1'"}) {
    EXPECT_THAT(faults, HasSubstr(part));
  }
}

TEST(SettingsTest, TheTtlOfSequencesIsOffUnlessGiven) {
  EXPECT_EQ(Load({})->sequence_ttl, std::chrono::nanoseconds(0));
  EXPECT_EQ(Load({"--sequence-ttl=none"})->sequence_ttl, std::chrono::nanoseconds(0));
  EXPECT_EQ(Load({"--sequence-ttl=720h"})->sequence_ttl, std::chrono::hours(720));
  for (const char* ttl : {"--sequence-ttl=0s", "--sequence-ttl=9000h", "--sequence-ttl=-1s",
                          "--sequence-ttl=7", "--sequence-ttl=never"}) {
    EXPECT_THAT(Faults({ttl}), HasSubstr("--sequence-ttl")) << ttl;
  }
}

TEST(SettingsTest, NothingIsPinnedUnlessALimitIsGiven) {
  EXPECT_EQ(Load({})->pin_limit_bytes, 0U);
  EXPECT_EQ(Load({"--pin-limit=2GiB"})->pin_limit_bytes, 2 * kGiB);
  EXPECT_THAT(Faults({"--pin-limit=some"}), HasSubstr("--pin-limit"));
}

TEST(SettingsTest, FlagBeatsEnvironmentBeatsFile) {
  const test::TempFolder folder;
  const std::string path = folder / "server.yaml";
  std::ofstream(path) << "ram: 1GiB\nmax-sessions: 5\nmax-sequences: 6\n";
  setenv("PASSBAND_MAX_SESSIONS", "50", 1);
  setenv("PASSBAND_MAX_SEQUENCES", "60", 1);
  const auto settings = Load({"--config", path.c_str(), "--max-sequences=600"});
  unsetenv("PASSBAND_MAX_SESSIONS");
  unsetenv("PASSBAND_MAX_SEQUENCES");
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->ram_bytes, kGiB);
  EXPECT_EQ(settings->max_sessions, 50U);
  EXPECT_EQ(settings->max_sequences, 600U);
}

TEST(SettingsTest, UnknownKeyOfTheFileIsRefusedWithTheNearest) {
  const test::TempFolder folder;
  const std::string path = folder / "unknown.yaml";
  std::ofstream(path) << "data-prot: 2\n";
  EXPECT_THAT(Faults({"--config", path.c_str()}),
              AllOf(HasSubstr("data-prot"), HasSubstr("data-port")));
}

TEST(SettingsTest, UnknownFlagIsRefused) { EXPECT_THAT(Faults({"--rma=1GiB"}), HasSubstr("rma")); }

TEST(SettingsTest, AllFaultsAreToldAtOnce) {
  const std::string faults =
      Faults({"--ram=lots", "--control-port=70000", "--data-threads=0", "--lease=30",
              "--log-level=loud", "--huge-pages=maybe", "--max-sessions=-1", "--http-port=x"});
  for (const char* part : {"--ram", "--control-port", "--data-threads", "--lease", "--log-level",
                           "--huge-pages", "--max-sessions", "--http-port"}) {
    EXPECT_THAT(faults, HasSubstr(part));
  }
  EXPECT_EQ(std::count(faults.begin(), faults.end(), '\n'), 7);
}

TEST(SettingsTest, BadSizesNameAnExample) {
  for (const char* ram :
       {"--ram=", "--ram=-1GiB", "--ram=1XB", "--ram=0", "--ram=99999999999TiB"}) {
    EXPECT_THAT(Faults({ram}), HasSubstr("--ram")) << ram;
  }
}

TEST(SettingsTest, SpillIsReadAndItsFaultsAreToldTogether) {
  const auto settings = Load({"--spill-dir=/d", "--spill-limit=1GiB", "--spill-full=reject",
                              "--spill-rate=100MB", "--low-watermark=50%", "--high-watermark=70"});
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->spill_dir, "/d");
  EXPECT_EQ(settings->spill_limit_bytes, uint64_t{1} << 30);
  EXPECT_EQ(settings->spill_full, FullTierPolicy::kReject);
  EXPECT_EQ(settings->spill_rate, 100'000'000u);
  EXPECT_DOUBLE_EQ(settings->low_watermark, 0.5);
  EXPECT_DOUBLE_EQ(settings->high_watermark, 0.7);
  const std::string faults =
      Faults({"--spill-limit=1KiB", "--spill-full=maybe", "--spill-rate=fast", "--low-watermark=0%",
              "--high-watermark=101%"});
  for (const char* part : {"--spill-limit", "drop-oldest, reject", "--spill-rate",
                           "--low-watermark '0%'", "--high-watermark '101%'"}) {
    EXPECT_THAT(faults, HasSubstr(part));
  }
  EXPECT_THAT(Faults({"--low-watermark=90%", "--high-watermark=80%"}),
              HasSubstr("above --high-watermark"));
}

TEST(SettingsTest, PortsThatCollideAreRefused) {
  EXPECT_THAT(Faults({"--data-threads=4", "--data-port=50058"}), HasSubstr("--control-port"));
  EXPECT_THAT(Faults({"--http-port=50061"}), HasSubstr("--http-port"));
  EXPECT_THAT(Faults({"--data-port=65535", "--data-threads=2"}), HasSubstr("65534"));
  EXPECT_TRUE(Load({"--control-port=0", "--http-port=0", "--data-port=0"}).ok());
}

TEST(SettingsTest, DataPortIsNoWiderOpenThanTheHost) {
  EXPECT_EQ(Load({})->net_devices, "lo");
  EXPECT_EQ(Load({"--host=localhost"})->net_devices, "lo");
  EXPECT_EQ(Load({"--host=0.0.0.0"})->net_devices, "");
  EXPECT_EQ(Load({"--host=0.0.0.0", "--net-devices=lo"})->net_devices, "lo");
}

TEST(SettingsTest, InterfacesThatAreNotHereAreRefused) {
  EXPECT_THAT(Faults({"--net-devices=lo,pigeon0", "--ram=lots"}),
              AllOf(HasSubstr("no interface pigeon0 is up here; there"), HasSubstr("lo"),
                    HasSubstr("--ram")));
  // Rows then travel over the control port.
  EXPECT_TRUE(Load({"--net-devices=pigeon0", "--data-plane=grpc"}).ok());
}

TEST(SettingsTest, OperatorsAreLocalUnlessAnyMayBe) {
  using Who = OperatorPolicy::Who;
  EXPECT_EQ(Load({})->operators.who, Who::kLocal);
  EXPECT_EQ(Load({"--operators=local"})->operators.who, Who::kLocal);
  EXPECT_EQ(Load({"--operators=any"})->operators.who, Who::kAnybody);
  EXPECT_THAT(Faults({"--operators=ann"}), HasSubstr("--tls-client-ca"));
}

TEST(SettingsTest, HelpAndVersionEndWithSuccess) {
  EXPECT_EQ(Load({"--help"}).status().code(), StatusCode::kCancelled);
  EXPECT_EQ(Load({"--version"}).status().code(), StatusCode::kCancelled);
}

}  // namespace
}  // namespace passband::server
