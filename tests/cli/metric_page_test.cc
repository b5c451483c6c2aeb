// Goal: a page of metrics is read as Prometheus defines it, and what is none is refused with the
// line that is wrong.
#include "services/cli/top/metric_page.h"

#include <gmock/gmock.h>

#include <cmath>

namespace passband::top {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

MetricPage Parsed(const std::string& text) {
  auto page = MetricPage::Parse(text);
  EXPECT_TRUE(page.ok()) << page.status();
  return page.ok() ? *std::move(page) : MetricPage();
}

TEST(MetricPageTest, ReadsSamplesWithAndWithoutLabels) {
  const MetricPage page = Parsed(
      "# HELP a_total Things\n# TYPE a_total counter\n"
      "a_total{method=\"fetch\",transport=\"tcp\"} 3\n"
      "a_total{method=\"fetch\",transport=\"shm\",} 4.5e1 1395066363000\r\n"
      "a_total{ method = \"read\" } 1\n\n"
      "b 12");
  EXPECT_EQ(page.Sum("a_total"), 49);
  EXPECT_EQ(page.Sum("a_total", {{"method", "fetch"}}), 48);
  EXPECT_EQ(page.Sum("a_total", {{"method", "fetch"}, {"transport", "shm"}}), 45);
  EXPECT_EQ(page.Sum("a_total", {{"method", "append"}}), 0);
  EXPECT_EQ(page.Sum("b"), 12);
  EXPECT_FALSE(page.Has("c"));
  EXPECT_TRUE(page.of("c").empty());
  EXPECT_THAT(page.LabelValues("a_total", "transport"), ElementsAre("shm", "tcp"));
}

TEST(MetricPageTest, ReadsEscapesAndSpecialNumbers) {
  const MetricPage page =
      Parsed("a{t=\"x\\\"y\\\\z\\nw{}, =\"} +Inf\nb NaN\nc -Inf\nd{t=\"\"} -0.5\n");
  EXPECT_EQ(page.of("a")[0].labels.at("t"), "x\"y\\z\nw{}, =");
  EXPECT_TRUE(std::isinf(page.Sum("a")));
  EXPECT_TRUE(std::isnan(page.Sum("b")));
  EXPECT_EQ(page.Sum("d", {{"t", ""}}), -0.5);
}

TEST(MetricPageTest, RefusesWhatIsNoMetric) {
  for (const std::string line :
       {"a", "a ", "a x", "1a 1", "{} 1", "a{ 1", "a{b} 1", "a{b=} 1", "a{b=\"c} 1", "a{b=\"c\" 1",
        "a{b=\"c\"d=\"e\"} 1", "a{b=\"\\x\"} 1", "a{b=\"1\",b=\"2\"} 1", "a 1 2 3", "a 1 now",
        "a 1e999", "a 0x10", "a inf", "<html>"}) {
    const auto page = MetricPage::Parse("ok 1\n" + line + "\n");
    ASSERT_FALSE(page.ok()) << line;
    EXPECT_EQ(page.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(page.status()), HasSubstr("line 2")) << line;
  }
}

TEST(MetricPageTest, APageHasAnEnd) {
  EXPECT_FALSE(MetricPage::Parse(std::string(MetricPage::kMaxBytes + 1, '\n')).ok());
  std::string many;
  for (size_t i = 0; i <= MetricPage::kMaxSamples; ++i) many += "a 1\n";
  EXPECT_THAT(Message(MetricPage::Parse(many).status()), HasSubstr("more than"));
  many.erase(0, 4);
  EXPECT_TRUE(MetricPage::Parse(many).ok());
}

TEST(MetricPageTest, MergesHistogramsAndReckonsQuantiles) {
  const MetricPage page = Parsed(
      "h_bucket{m=\"a\",le=\"1\"} 10\nh_bucket{m=\"a\",le=\"2\"} 20\nh_bucket{m=\"a\",le=\"+Inf\"} "
      "20\n"
      "h_bucket{m=\"b\",le=\"1\"} 0\nh_bucket{m=\"b\",le=\"2\"} 10\nh_bucket{m=\"b\",le=\"+Inf\"} "
      "20\n");
  const MetricHistogram a = page.Histogram("h", {{"m", "a"}});
  EXPECT_THAT(a.counts, ElementsAre(10, 10, 0));
  EXPECT_DOUBLE_EQ(a.Quantile(0.25), 0.5);
  EXPECT_DOUBLE_EQ(a.Quantile(0.5), 1);
  EXPECT_DOUBLE_EQ(a.Quantile(0.75), 1.5);
  EXPECT_DOUBLE_EQ(a.Quantile(1), 2);
  const MetricHistogram both = page.Histogram("h");
  EXPECT_THAT(both.counts, ElementsAre(10, 20, 10));
  EXPECT_DOUBLE_EQ(both.Quantile(0.99), 2);  // Above the last finite bound: no better is known.
  EXPECT_TRUE(std::isnan(page.Histogram("none").Quantile(0.5)));
  EXPECT_TRUE(std::isnan(a.Since(a).Quantile(0.5)));
  EXPECT_THAT(both.Since(a).counts, ElementsAre(0, 10, 10));
  // Whoever counted less than before was started again.
  EXPECT_THAT(a.Since(both).counts, ElementsAre(10, 10, 0));
}

}  // namespace
}  // namespace passband::top
