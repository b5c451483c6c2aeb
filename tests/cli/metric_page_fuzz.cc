// Goal: no page of metrics, whoever wrote it, harms passband top; what was taken has the numbers
// that it says.
#include "services/cli/top/metric_page.h"
#include "services/cli/top/server_tick.h"
#include "tests/support/fuzz.h"

using passband::test::Require;
using passband::top::Look;
using passband::top::MetricHistogram;
using passband::top::MetricPage;

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  const std::string head = "passband_build_info{version=\"1\"} 1\nprocess_start_time_seconds 5\n";
  passband::test::BeginWith(
      argc, argv,
      {head, head + "passband_requests_total{method=\"fetch\",transport=\"tcp\",result=\"ok\"} 3\n",
       head + "passband_request_duration_seconds_bucket{method=\"fetch\",le=\"+Inf\"} 3\n",
       head + "passband_tenant_bytes{tenant=\"a\\\"\\n\"} 1e300\npassband_sequences NaN\n"});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto page = MetricPage::Parse(passband::test::Text(data, size));
  if (!page.ok()) return 0;
  const MetricHistogram histogram = page->Histogram("passband_request_duration_seconds");
  Require(histogram.bounds.size() == histogram.counts.size());
  for (const double count : histogram.counts) Require(!(count < 0));
  const Look before{.page = *MetricPage::Parse(""), .at_seconds = 1};
  const Look now{.page = *page, .at_seconds = 2};
  for (const Look* first : {&before, &now}) {
    const auto tick = passband::top::MakeTick(*first, now);
    if (!tick.ok()) continue;
    Require(tick->used_bytes <= tick->capacity_bytes && tick->cached_bytes <= tick->used_bytes);
    Require(tick->traffic.size() >= 4);
  }
  return 0;
}
