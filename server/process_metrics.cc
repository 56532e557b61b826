#include "server/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace rasq {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

std::string ReadFile(const char* path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

MetricFamily Single(MetricType type, const char* name, const char* help, double value) {
  MetricFamily family{.name = name, .help = help, .type = type, .metric = {ClientMetric()}};
  ClientMetric& metric = family.metric.front();
  (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  return family;
}

// Seconds since the epoch at which the machine started; nothing if /proc does not say.
std::optional<double> BootTime() {
  for (const absl::string_view line : absl::StrSplit(ReadFile("/proc/stat"), '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    double seconds = 0;
    if (words.size() == 2 && words[0] == "btime" && absl::SimpleAtod(words[1], &seconds)) {
      return seconds;
    }
  }
  return std::nullopt;
}

// Of /proc/self/stat, see proc(5).
struct ProcessStat {
  double cpu_seconds;
  double start_seconds;  // since boot
  double virtual_bytes;
  double resident_bytes;
};

std::optional<ProcessStat> ReadStat() {
  const std::string text = ReadFile("/proc/self/stat");
  // The second field, the program's name, may hold anything; it ends at the last parenthesis.
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  const std::vector<std::string> fields = absl::StrSplit(text.substr(name_end + 1), ' ');
  constexpr size_t kFirst = 2;  // fields[0] is empty, and fields[1] is the third of proc(5)
  const auto field = [&](size_t number) {
    double value = 0;
    return number - kFirst < fields.size() && absl::SimpleAtod(fields[number - kFirst], &value)
               ? value
               : 0;
  };
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  return ProcessStat{.cpu_seconds = (field(14) + field(15)) / ticks,
                     .start_seconds = field(22) / ticks,
                     .virtual_bytes = field(23),
                     .resident_bytes = field(24) * static_cast<double>(sysconf(_SC_PAGESIZE))};
}

}  // namespace

std::vector<MetricFamily> ProcessCollector::Collect() const {
  std::vector<MetricFamily> families;
  const auto add = [&](MetricType type, const char* name, const char* help, double value) {
    families.push_back(Single(type, name, help, value));
  };
  if (const std::optional<ProcessStat> stat = ReadStat(); stat.has_value()) {
    add(MetricType::Counter, "process_cpu_seconds_total", "Processor time spent.",
        stat->cpu_seconds);
    add(MetricType::Gauge, "process_resident_memory_bytes", "Resident memory.",
        stat->resident_bytes);
    add(MetricType::Gauge, "process_virtual_memory_bytes", "Virtual memory.", stat->virtual_bytes);
    if (const std::optional<double> boot = BootTime(); boot.has_value()) {
      add(MetricType::Gauge, "process_start_time_seconds", "Start, since the Unix epoch.",
          *boot + stat->start_seconds);
    }
  }
  std::error_code error;
  const std::filesystem::directory_iterator open("/proc/self/fd", error);
  if (!error) {
    // One of them is the listing's own.
    add(MetricType::Gauge, "process_open_fds", "Open file descriptors.",
        static_cast<double>(std::distance(begin(open), end(open)) - 1));
  }
  if (rlimit limit; getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    add(MetricType::Gauge, "process_max_fds", "Most file descriptors that may be open.",
        static_cast<double>(limit.rlim_cur));
  }
  return families;
}

}  // namespace rasq
