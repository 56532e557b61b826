#include "client/eval/machine.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/eval/files.h"
#include "client/security.h"

namespace rasq::client {
namespace {

// The value of a line "key : value"; empty if it has another key.
std::string ValueOf(absl::string_view line, absl::string_view key) {
  const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 1));
  if (parts.size() != 2 || absl::StripAsciiWhitespace(parts[0]) != key) return "";
  return std::string(absl::StripAsciiWhitespace(parts[1]));
}

// As the driver lists them: "NVIDIA H200", or "4 x NVIDIA H200" of `count`.
std::string DescribeGpus(int64_t count) {
  std::map<std::string, int> models;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", error)) {
    const auto text = ReadTextFile((entry.path() / "information").string());
    if (!text.ok()) continue;
    for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
      if (const std::string model = ValueOf(line, "Model"); !model.empty()) ++models[model];
    }
  }
  // Of different ones nobody knows which.
  if (models.size() != 1) return "";
  const std::string& model = models.begin()->first;
  return count == 1 ? model : absl::StrCat(count, " x ", model);
}

}  // namespace

std::string DescribeProcessor(absl::string_view cpuinfo) {
  std::string model;
  int threads = 0;
  for (const absl::string_view line : absl::StrSplit(cpuinfo, '\n')) {
    const std::string value = ValueOf(line, "model name");
    if (value.empty()) continue;
    if (++threads == 1) model = value;
  }
  return threads == 0 ? "" : absl::StrCat(model, ", ", threads, " threads");
}

std::string DescribeMachine(absl::string_view address, absl::string_view device) {
  if (!IsLocal(address)) return "";
  if (absl::StartsWith(device, "cuda")) {
    return DescribeGpus(1 + std::count(device.begin(), device.end(), ','));
  }
  const auto cpuinfo = ReadTextFile("/proc/cpuinfo");
  return cpuinfo.ok() ? DescribeProcessor(*cpuinfo) : "";
}

}  // namespace rasq::client
