// The "pre_tokenizer" entry of tokenizer.json, as patterns. Every kind it may hold that keeps all
// of the text comes down to: split into a pattern's matches and what lies between them.

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/tokenizer/tokenizer_file.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

// Source: the GPT-2 release; what ByteLevel applies unless use_regex is false.
constexpr absl::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

absl::Status AddPattern(absl::string_view pattern, Pattern::Syntax syntax, absl::string_view where,
                        std::vector<Pattern>& patterns) {
  RASQ_ASSIGN_OR_RETURN(Pattern compiled, Pattern::Compile(pattern, syntax, where));
  patterns.push_back(std::move(compiled));
  return absl::OkStatus();
}

absl::Status AddByteLevel(FieldReader& stage, absl::string_view where,
                          std::vector<Pattern>& patterns) {
  // A space before a text would be a space before every text appended to a session.
  if (stage.Bool("add_prefix_space", false)) {
    stage.Unsupported("add_prefix_space", true, "a text is encoded as it is");
  }
  const bool use_regex = stage.Bool("use_regex", true);
  RASQ_RETURN_IF_ERROR(stage.status());
  if (!use_regex) return absl::OkStatus();
  return AddPattern(kGpt2Pattern, Pattern::Syntax::kRegex, where, patterns);
}

absl::Status AddDigits(FieldReader& stage, absl::string_view where,
                       std::vector<Pattern>& patterns) {
  const bool individual = stage.Bool("individual_digits", false);
  RASQ_RETURN_IF_ERROR(stage.status());
  return AddPattern(individual ? "\\p{N}" : "\\p{N}+", Pattern::Syntax::kRegex, where, patterns);
}

absl::Status AddSplit(FieldReader& stage, absl::string_view where, std::vector<Pattern>& patterns) {
  const std::string behavior = stage.String("behavior");
  const bool invert = stage.Bool("invert", false);
  // Inverted and removed means: keep the matches. Patterns used so match all of a text; were one to
  // leave something out we would keep that too.
  if (behavior != "Isolated" && !(behavior == "Removed" && invert)) {
    stage.Unsupported("behavior", behavior,
                      "only Isolated, and Removed if inverted, are supported");
  }
  const Json* pattern = stage.Find("pattern");
  RASQ_RETURN_IF_ERROR(stage.status());
  if (pattern == nullptr || !pattern->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": pattern is not an object"));
  }
  FieldReader fields(*pattern, absl::StrCat(where, ": pattern"));
  const bool literal = fields.Has("String");
  const std::string text = fields.String(literal ? "String" : "Regex");
  RASQ_RETURN_IF_ERROR(fields.status());
  return AddPattern(text, literal ? Pattern::Syntax::kLiteral : Pattern::Syntax::kRegex, where,
                    patterns);
}

absl::Status AddStage(const Json& json, const std::string& where, bool last,
                      std::vector<Pattern>& patterns) {
  FieldReader stage(json, where);
  const std::string type = stage.String("type");
  RASQ_RETURN_IF_ERROR(stage.status());
  if (type == "ByteLevel") {
    // It rewrites the text in its alphabet, which the stages behind it would then see.
    if (!last) stage.Unsupported("type", type, "it must be the last stage");
    return AddByteLevel(stage, where, patterns);
  }
  if (type == "Digits") return AddDigits(stage, where, patterns);
  if (type == "Split") return AddSplit(stage, where, patterns);
  if (type != "Sequence") {
    stage.Unsupported("type", type, "only ByteLevel, Digits, Split and Sequence are supported");
    return stage.status();
  }
  const Json* stages = stage.Find("pretokenizers");
  if (stages == nullptr || !stages->is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": pretokenizers is not a list"));
  }
  for (size_t i = 0; i < stages->size(); ++i) {
    RASQ_RETURN_IF_ERROR(AddStage((*stages)[i], absl::StrCat(where, "[", i, "]"),
                                  last && i + 1 == stages->size(), patterns));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Pattern>> ParsePreTokenizer(const Json* json, absl::string_view name) {
  // Each stage is a search through all of the text, and a level of recursion.
  constexpr size_t kMaxPatterns = 16;
  std::vector<Pattern> patterns;
  if (json == nullptr) return patterns;
  const std::string where = absl::StrCat(name, ": pre_tokenizer");
  RASQ_RETURN_IF_ERROR(AddStage(*json, where, /*last=*/true, patterns));
  if (patterns.size() > kMaxPatterns) {
    return absl::UnimplementedError(
        absl::StrCat(where, ": stages=", patterns.size(), " is more than ", kMaxPatterns));
  }
  return patterns;
}

}  // namespace rasq
