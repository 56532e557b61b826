#include "train/data/json_lines.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "train/data/text_file.h"

namespace rasq::train {

absl::Status ForEachJsonLine(
    const std::string& path,
    absl::FunctionRef<absl::Status(const Json& line, const std::string& where)> read) {
  const absl::StatusOr<std::string> text = ReadText(path);
  if (!text.ok()) return text.status();
  absl::string_view rest = *text;
  for (int64_t number = 1; !rest.empty(); ++number) {
    const absl::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.empty()) continue;
    const std::string where = absl::StrCat(path, ":", number);
    const absl::StatusOr<Json> json = ParseJson(line, where);
    if (!json.ok()) return json.status();
    RASQ_RETURN_IF_ERROR(read(*json, where));
  }
  return absl::OkStatus();
}

absl::StatusOr<const Json*> FindArray(const Json& object, const char* name,
                                      absl::string_view where) {
  FieldReader reader(object, where);
  RASQ_RETURN_IF_ERROR(reader.status());
  const Json* array = reader.Find(name);
  if (array == nullptr || !array->is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", name, " is no array"));
  }
  return array;
}

}  // namespace rasq::train
