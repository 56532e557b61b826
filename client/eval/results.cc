#include "client/eval/results.h"

#include <type_traits>

#include "absl/strings/str_cat.h"
#include "client/eval/json_lines.h"

namespace rasq::client {
namespace {

template <typename T>
struct IsOptional : std::false_type {};
template <typename T>
struct IsOptional<std::optional<T>> : std::true_type {};

// One list of fields for writing and reading. `visit(name, field)` is called for each.
template <typename Key, typename Visit>
void VisitKey(Key& key, Visit visit) {
  visit("strategy", key.strategy);
  visit("settings", key.settings);
  visit("task", key.task);
  visit("length", key.length);
  visit("stream", key.stream);
}
template <typename Header, typename Visit>
void VisitFields(std::type_identity<RunHeader>, Header& h, Visit visit) {
  visit("server_version", h.server_version);
  visit("model", h.model);
  visit("fingerprint", h.fingerprint);
  visit("device", h.device);
  visit("dtype", h.dtype);
  visit("entry_type", h.entry_type);
  visit("machine", h.machine);
  visit("server_flags", h.server_flags);
  visit("capacity_tokens", h.capacity_tokens);
  visit("window_tokens", h.window_tokens);
  visit("state_bytes", h.state_bytes);
  visit("seed", h.seed);
  visit("split", h.split);
  visit("facts", h.facts);
  visit("questions", h.questions);
  visit("along", h.along);
  visit("generate_tokens", h.generate_tokens);
  visit("text", h.text);
  visit("babi", h.babi);
  visit("passages", h.passages);
  visit("ruler", h.ruler);
  visit("strategies", h.strategies);
  visit("tasks", h.tasks);
  visit("settings", h.settings);
  visit("session_options", h.session_options);
  visit("lengths", h.lengths);
  visit("streams", h.streams);
  visit("parallel", h.parallel);
}
template <typename Question, typename Visit>
void VisitFields(std::type_identity<QuestionResult>, Question& q, Visit visit) {
  VisitKey(q.key, visit);
  visit("index", q.index);
  visit("kind", q.kind);
  visit("question", q.question);
  visit("want", q.want);
  visit("got", q.got);
  visit("score", q.score);
  visit("exact", q.exact);
  visit("f1", q.f1);
  visit("babilong", q.babilong);
  visit("position_tokens", q.position_tokens);
  visit("age_tokens", q.age_tokens);
  visit("oldest_age_tokens", q.oldest_age_tokens);
  visit("replaced_values", q.replaced_values);
  visit("distance_tokens", q.distance_tokens);
  visit("evidence_recall", q.evidence_recall);
  visit("retrieved_tokens", q.retrieved_tokens);
  visit("output_tokens", q.output_tokens);
  visit("time_to_first_token_seconds", q.time_to_first_token_seconds);
  visit("total_seconds", q.total_seconds);
}
template <typename Stream, typename Visit>
void VisitFields(std::type_identity<StreamResult>, Stream& s, Visit visit) {
  VisitKey(s.key, visit);
  visit("questions", s.questions);
  visit("context_tokens", s.context_tokens);
  visit("append_seconds", s.append_seconds);
  visit("append_tokens_per_second", s.append_tokens_per_second);
  visit("state_bytes", s.state_bytes);
  visit("token_gaps_us", s.token_gaps_us);
  visit("scored_tokens", s.scored_tokens);
  visit("logprob_sum", s.logprob_sum);
  visit("refused", s.refused);
}

template <typename T>
Json Write(absl::string_view type, const T& value) {
  Json json = {{"type", std::string(type)}};
  VisitFields(std::type_identity<T>(), value, [&](const char* name, const auto& field) {
    if constexpr (IsOptional<std::decay_t<decltype(field)>>::value) {
      if (field.has_value()) json[name] = *field;
    } else {
      json[name] = field;
    }
  });
  return json;
}

bool Read(const Json& json, bool* field) {
  if (json.is_boolean()) *field = json.get<bool>();
  return json.is_boolean();
}
bool Read(const Json& json, int64_t* field) {
  if (json.is_number_integer()) *field = json.get<int64_t>();
  return json.is_number_integer();
}
bool Read(const Json& json, double* field) {
  if (json.is_number()) *field = json.get<double>();
  return json.is_number();
}
bool Read(const Json& json, std::string* field) {
  if (json.is_string()) *field = json.get<std::string>();
  return json.is_string();
}
template <typename T>
bool Read(const Json& json, std::vector<T>* field) {
  if (!json.is_array()) return false;
  for (const Json& element : json) {
    if (!Read(element, &field->emplace_back())) return false;
  }
  return true;
}

template <typename T>
absl::Status ReadInto(const Json& json, const std::string& where, std::vector<T>& list) {
  T value;
  absl::Status status;
  VisitFields(std::type_identity<T>(), value, [&](const char* name, auto& field) {
    const auto found = json.find(name);
    bool good = found != json.end();
    if constexpr (IsOptional<std::decay_t<decltype(field)>>::value) {
      good = !good || Read(*found, &field.emplace());
    } else {
      good = good && Read(*found, &field);
    }
    if (!good && status.ok()) {
      status = absl::InvalidArgumentError(
          absl::StrCat(where, ": ", name, "=", found == json.end() ? "missing" : found->dump()));
    }
  });
  if (status.ok()) list.push_back(std::move(value));
  return status;
}

}  // namespace

Json ToJson(const RunHeader& header) { return Write("run", header); }
Json ToJson(const QuestionResult& result) { return Write("question", result); }
Json ToJson(const StreamResult& result) { return Write("stream", result); }

absl::StatusOr<Results> ParseResults(absl::string_view lines, absl::string_view path) {
  Results results;
  const absl::Status status =
      ForEachJsonLine(lines, path, [&](const Json& json, const std::string& where) {
        std::string type;
        if (const auto found = json.find("type"); found != json.end()) Read(*found, &type);
        if (type == "run") return ReadInto(json, where, results.runs);
        if (type == "question") return ReadInto(json, where, results.questions);
        if (type == "stream") return ReadInto(json, where, results.streams);
        return absl::InvalidArgumentError(
            absl::StrCat(where, ": type=", type, ": not run, question or stream"));
      });
  if (!status.ok()) return status;
  return results;
}

}  // namespace rasq::client
