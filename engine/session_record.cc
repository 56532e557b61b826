#include "engine/session_record.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/json_reader.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

constexpr int64_t kMost = int64_t{1} << 53;
constexpr double kLarge = 1e300;

template <typename T>
Json Binary(const std::vector<T>& values) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  return Json::binary({bytes, bytes + values.size() * sizeof(T)});
}

Json Binary(const std::string& text) { return Json::binary({text.begin(), text.end()}); }

const Json::binary_t* FindBinary(FieldReader& fields, const char* name) {
  static const Json none;
  const Json* value = fields.Find(name);
  if (value == nullptr || !value->is_binary()) {
    fields.Bad(name, value != nullptr ? *value : none, "bytes");
    return nullptr;
  }
  return &value->get_binary();
}

template <typename T>
std::vector<T> ReadVector(FieldReader& fields, const char* name) {
  const Json::binary_t* bytes = FindBinary(fields, name);
  if (bytes == nullptr) return {};
  if (bytes->size() % sizeof(T) != 0) {
    fields.Bad(name, Json(bytes->size()), absl::StrCat("a multiple of ", sizeof(T), " bytes"));
    return {};
  }
  std::vector<T> values(bytes->size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes->data(), bytes->size());
  return values;
}

std::string ReadBytes(FieldReader& fields, const char* name) {
  const Json::binary_t* bytes = FindBinary(fields, name);
  return bytes != nullptr ? std::string(bytes->begin(), bytes->end()) : std::string();
}

Json EncodeRag(const RagOptions& rag) {
  return {{"chunk_tokens", rag.chunk_tokens},
          {"chunks", rag.chunks},
          {"split", static_cast<int>(rag.split)},
          {"order", static_cast<int>(rag.order)},
          {"retriever", static_cast<int>(rag.retriever)},
          {"history_tokens", rag.history_tokens}};
}

absl::StatusOr<RagOptions> DecodeRag(const Json& json) {
  FieldReader fields(json, "options.rag");
  RagOptions rag;
  rag.chunk_tokens = static_cast<int32_t>(fields.Int("chunk_tokens", 1, kMaxRagTokens));
  rag.chunks = static_cast<int32_t>(fields.Int("chunks", 1, kMaxRagTokens));
  rag.split = static_cast<RagSplit>(fields.Int("split", 0, 1));
  rag.order = static_cast<RagOrder>(fields.Int("order", 0, 1));
  rag.retriever = static_cast<RagRetriever>(fields.Int("retriever", 0, 1));
  rag.history_tokens = fields.Int("history_tokens", 0, kMost);
  if (rag.history_tokens > 0 && rag.history_tokens < rag.chunk_tokens) {
    fields.Bad("history_tokens", Json(rag.history_tokens), "0, or at least chunk_tokens");
  }
  RASQ_RETURN_IF_ERROR(fields.status());
  return rag;
}

Json EncodeAttentionRag(const AttentionRagOptions& rag) {
  return {{"chunk_tokens", rag.chunk_tokens},       {"top_tokens", rag.top_tokens},
          {"history_tokens", rag.history_tokens},   {"anchor_prompt", Binary(rag.anchor_prompt)},
          {"hint_prompt", Binary(rag.hint_prompt)}, {"hint", Binary(rag.hint)}};
}

absl::StatusOr<AttentionRagOptions> DecodeAttentionRag(const Json& json) {
  FieldReader fields(json, "options.attention_rag");
  AttentionRagOptions rag;
  rag.chunk_tokens = static_cast<int32_t>(fields.Int("chunk_tokens", 1, kMaxRagTokens));
  rag.top_tokens = static_cast<int32_t>(fields.Int("top_tokens", 1, kMaxRagTokens));
  rag.history_tokens = fields.Int("history_tokens", 0, kMost);
  rag.anchor_prompt = ReadBytes(fields, "anchor_prompt");
  rag.hint_prompt = ReadBytes(fields, "hint_prompt");
  rag.hint = ReadBytes(fields, "hint");
  if (rag.history_tokens > 0 && rag.history_tokens < rag.chunk_tokens) {
    fields.Bad("history_tokens", Json(rag.history_tokens), "0, or at least chunk_tokens");
  }
  RASQ_RETURN_IF_ERROR(fields.status());
  return rag;
}

Json EncodeOptions(const SessionOptions& options) {
  Json json = {{"strategy", static_cast<int>(options.strategy)},
               {"ttl_us", absl::ToInt64Microseconds(options.ttl)},
               {"budget_tokens", options.budget_tokens},
               {"budget_gain", options.budget_gain},
               {"score_floor", options.score_floor},
               {"half_life_tokens", options.half_life_tokens},
               {"replacement_noise", options.replacement_noise},
               {"seed", std::to_string(options.seed)},  // all 64 bits
               {"priority", options.priority},
               {"no_dsr", options.ablation.no_dsr},
               {"no_sqa", options.ablation.no_sqa},
               {"no_rckv", options.ablation.no_rckv}};
  if (options.strategy == Strategy::kRag) json["rag"] = EncodeRag(options.rag);
  if (options.strategy == Strategy::kAttentionRag) {
    json["attention_rag"] = EncodeAttentionRag(options.attention_rag);
  }
  return json;
}

// -infinity where there is none.
double ReadFloor(FieldReader& fields) {
  const Json* value = fields.Find("score_floor");
  if (value == nullptr) return -INFINITY;
  if (!value->is_number() || std::isnan(value->get<double>())) {
    fields.Bad("score_floor", *value, "a number");
    return -INFINITY;
  }
  return value->get<double>();
}

absl::StatusOr<SessionOptions> DecodeOptions(const Json& json) {
  FieldReader fields(json, "options");
  SessionOptions options;
  options.strategy =
      static_cast<Strategy>(fields.Int("strategy", 0, static_cast<int>(Strategy::kPyramid)));
  options.ttl = absl::Microseconds(fields.Int("ttl_us", 0, INT64_MAX));
  options.budget_tokens = static_cast<int32_t>(fields.Int("budget_tokens", 0, INT32_MAX));
  options.budget_gain = fields.Number("budget_gain", 0, kLarge);
  options.score_floor = ReadFloor(fields);
  options.half_life_tokens = fields.Number("half_life_tokens", 0, kLarge);
  options.replacement_noise = fields.Number("replacement_noise", 0, 1);
  options.priority = static_cast<int32_t>(fields.Int("priority", INT32_MIN, INT32_MAX));
  options.ablation = {.no_dsr = fields.Bool("no_dsr", false),
                      .no_sqa = fields.Bool("no_sqa", false),
                      .no_rckv = fields.Bool("no_rckv", false)};
  if (!absl::SimpleAtoi(fields.String("seed"), &options.seed)) {
    fields.Bad("seed", json.value("seed", Json()), "an integer");
  }
  const Json none;
  const bool by_attention = options.strategy == Strategy::kAttentionRag;
  const Json* rag = fields.Find(by_attention ? "attention_rag" : "rag");
  RASQ_RETURN_IF_ERROR(fields.status());
  if (options.strategy == Strategy::kRag) {
    RASQ_ASSIGN_OR_RETURN(options.rag, DecodeRag(rag != nullptr ? *rag : none));
  }
  if (by_attention) {
    RASQ_ASSIGN_OR_RETURN(options.attention_rag, DecodeAttentionRag(rag != nullptr ? *rag : none));
  }
  return options;
}

absl::StatusOr<std::shared_ptr<const Input>> DecodeInput(const Json& json) {
  FieldReader fields(json, "queue");
  auto input = std::make_shared<Input>();
  input->ids = ReadVector<int32_t>(fields, "ids");
  input->embeddings = ReadVector<float>(fields, "embeddings");
  input->segment_break = fields.Int("segment_break", -1, INT64_MAX);
  input->pinned = fields.Bool("pinned", false);
  RASQ_RETURN_IF_ERROR(fields.status());
  if (!input->embeddings.empty() &&
      (input->ids.empty() || input->embeddings.size() % input->ids.size() != 0)) {
    return absl::InvalidArgumentError("queue.embeddings: no whole number of values a row");
  }
  return input;
}

absl::StatusOr<SessionRecord> Decode(const Json& json) {
  FieldReader fields(json, "record");
  SessionRecord record;
  if (const Json* origin = fields.Find("origin"); origin != nullptr && origin->is_object()) {
    for (const auto& [name, value] : origin->items()) {
      if (value.is_string()) record.origin[name] = value.get<std::string>();
    }
  }
  record.name = {fields.String("tenant"), fields.String("id")};
  record.request_id = ReadBytes(fields, "request_id");
  record.create_time = absl::FromUnixMicros(fields.Int("create_us", 0, INT64_MAX));
  record.last_use_time = absl::FromUnixMicros(fields.Int("last_use_us", 0, INT64_MAX));
  record.mark = {.next_offset = fields.Int("next_offset", 0, kMost),
                 .pinned_tokens = fields.Int("pinned_tokens", 0, kMost),
                 .held_text = ReadBytes(fields, "held_text"),
                 .begun = fields.Bool("begun", false)};
  record.cursor.position = fields.Int("position", 0, kMost);
  record.cursor.segment_start = fields.Int("segment_start", 0, record.cursor.position);
  const Json none = Json::array();
  const auto list = [&](const char* name) -> const Json& {
    const Json* value = fields.Find(name);
    if (value == nullptr || !value->is_array()) {
      fields.Bad(name, value != nullptr ? *value : none, "a list");
      return none;
    }
    return *value;
  };
  for (const Json& label : list("labels")) {
    if (!label.is_array() || label.size() != 2 || !label[0].is_binary() || !label[1].is_binary()) {
      return absl::InvalidArgumentError("record.labels: not pairs of bytes");
    }
    const Json::binary_t &key = label[0].get_binary(), &value = label[1].get_binary();
    record.labels[std::string(key.begin(), key.end())] = std::string(value.begin(), value.end());
  }
  for (const Json& item : list("queue")) {
    RASQ_ASSIGN_OR_RETURN(record.queue.emplace_back(), DecodeInput(item));
  }
  if (fields.Has("history")) record.history = ReadVector<int32_t>(fields, "history");
  const Json* options = fields.Find("options");
  RASQ_RETURN_IF_ERROR(fields.status());
  RASQ_ASSIGN_OR_RETURN(record.options, DecodeOptions(options != nullptr ? *options : none));
  return record;
}

}  // namespace

StateOrigin OriginOf(const std::string& model_fingerprint, DType element,
                     const StateLayout& layout) {
  const StreamShape& shape = layout.shape;
  StateOrigin origin = DescribePlan(layout.store);
  if (layout.has_store()) origin["strategy"] = Name(layout.strategy);
  origin.insert({{"model", model_fingerprint},
                 {"dtype", Name(element)},
                 {"entry_type", Name(layout.entry_type, element)},
                 {"state_bytes", absl::StrCat(layout.bytes)},
                 {"window_tokens", absl::StrCat(shape.window_rows)},
                 {"segment_tokens", absl::StrCat(shape.segment_rows)},
                 {"sink_tokens", absl::StrCat(shape.sink_rows)},
                 {"capacity_tokens", absl::StrCat(shape.capacity)},
                 {"max_budget_tokens", absl::StrCat(shape.max_selected)}});
  return origin;
}

absl::Status CheckOrigin(const StateOrigin& record, const StateOrigin& own) {
  for (const auto& [name, value] : own) {
    const auto found = record.find(name);
    const std::string other = found == record.end() ? "(none)" : found->second;
    if (other != value) {
      return absl::FailedPreconditionError(
          absl::StrCat(name, "=", other, ", this server has ", value));
    }
  }
  return absl::OkStatus();
}

int64_t SessionRecord::context_tokens() const {
  int64_t tokens = cursor.position;
  for (const std::shared_ptr<const Input>& input : queue) tokens += input->size();
  return tokens;
}

std::string EncodeRecord(const SessionRecord& record) {
  Json labels = Json::array(), queue = Json::array();
  for (const auto& [key, value] : record.labels) {
    labels.push_back(Json::array({Binary(key), Binary(value)}));
  }
  for (const std::shared_ptr<const Input>& input : record.queue) {
    queue.push_back({{"ids", Binary(input->ids)},
                     {"embeddings", Binary(input->embeddings)},
                     {"segment_break", input->segment_break},
                     {"pinned", input->pinned}});
  }
  Json json = {{"origin", record.origin},
               {"tenant", record.name.tenant},
               {"id", record.name.id},
               {"request_id", Binary(record.request_id)},
               {"options", EncodeOptions(record.options)},
               {"labels", std::move(labels)},
               {"create_us", absl::ToUnixMicros(record.create_time)},
               {"last_use_us", absl::ToUnixMicros(record.last_use_time)},
               {"next_offset", record.mark.next_offset},
               {"pinned_tokens", record.mark.pinned_tokens},
               {"held_text", Binary(record.mark.held_text)},
               {"begun", record.mark.begun},
               {"position", record.cursor.position},
               {"segment_start", record.cursor.segment_start},
               {"queue", std::move(queue)}};
  if (!record.history.empty()) json["history"] = Binary(record.history);
  std::string bytes;
  Json::to_cbor(json, bytes);
  return bytes;
}

absl::StatusOr<SessionRecord> DecodeRecord(absl::string_view bytes) {
  const Json json =
      Json::from_cbor(bytes.begin(), bytes.end(), /*strict=*/true, /*allow_exceptions=*/false);
  if (json.is_discarded()) return absl::DataLossError("record: not CBOR");
  absl::StatusOr<SessionRecord> record = Decode(json);
  if (!record.ok()) return absl::DataLossError(record.status().message());
  return record;
}

}  // namespace rasq
