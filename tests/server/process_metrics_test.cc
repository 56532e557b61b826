#include "server/process_metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace rasq {
namespace {

std::map<std::string, double> Values() {
  std::map<std::string, double> values;
  for (const prometheus::MetricFamily& family : ProcessCollector().Collect()) {
    const bool counter = family.type == prometheus::MetricType::Counter;
    const prometheus::ClientMetric& metric = family.metric.at(0);
    values[family.name] = counter ? metric.counter.value : metric.gauge.value;
  }
  return values;
}

TEST(ProcessMetricsTest, StartedAMomentAgo) {
  const double age = absl::ToUnixSeconds(absl::Now()) - Values().at("process_start_time_seconds");
  EXPECT_GE(age, -2);  // the boot time that it is added to has no fraction
  EXPECT_LT(age, 3600);
}

TEST(ProcessMetricsTest, ResidentMemoryFollowsAllocation) {
  const double before = Values().at("process_resident_memory_bytes");
  constexpr int64_t kBytes = 64 << 20;
  const std::vector<char> held(kBytes, 1);
  const double growth = Values().at("process_resident_memory_bytes") - before;
  EXPECT_GT(growth, 0.9 * kBytes) << static_cast<int>(held.back());
  EXPECT_LT(growth, 1.5 * kBytes);
  EXPECT_GE(Values().at("process_virtual_memory_bytes"),
            Values().at("process_resident_memory_bytes"));
}

TEST(ProcessMetricsTest, ProcessorTimeGrows) {
  const double before = Values().at("process_cpu_seconds_total");
  const absl::Time give_up = absl::Now() + absl::Seconds(20);
  while (Values().at("process_cpu_seconds_total") == before && absl::Now() < give_up) {
  }
  const double spent = Values().at("process_cpu_seconds_total") - before;
  EXPECT_GT(spent, 0);
  EXPECT_LT(spent, 20);
}

TEST(ProcessMetricsTest, CountsOpenFiles) {
  const double before = Values().at("process_open_fds");
  const int file = open("/dev/null", O_RDONLY);
  ASSERT_GE(file, 0);
  EXPECT_EQ(Values().at("process_open_fds"), before + 1);
  close(file);
  EXPECT_EQ(Values().at("process_open_fds"), before);
  EXPECT_GE(Values().at("process_max_fds"), before);
}

}  // namespace
}  // namespace rasq
