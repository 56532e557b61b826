#include "client/eval/json_lines.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace rasq::client {

absl::Status ForEachJsonLine(
    absl::string_view text, absl::string_view path,
    absl::FunctionRef<absl::Status(const Json& json, const std::string& where)> read) {
  for (int64_t number = 1; !text.empty(); ++number) {
    const absl::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.empty()) continue;
    const std::string where = absl::StrCat(path, ":", number);
    const Json json = Json::parse(line, /*cb=*/nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return absl::InvalidArgumentError(absl::StrCat(where, ": no object"));
    if (absl::Status status = read(json, where); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace rasq::client
