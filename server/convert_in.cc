#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/check_range.h"
#include "kernels/base/dtype.h"
#include "kernels/base/status.h"
#include "server/convert.h"

namespace rasq {
namespace {

static_assert(std::endian::native == std::endian::little, "embeddings are read as they come");

constexpr size_t kMaxIdBytes = 128;
constexpr int kMaxLabels = 16;
constexpr size_t kMaxLabelKeyBytes = 64;
constexpr size_t kMaxLabelValueBytes = 256;
constexpr int kMaxStopStrings = 16;
constexpr size_t kMaxStopStringBytes = 256;
constexpr int kMaxStopTokenIds = 256;
constexpr int kMaxLogprobs = 20;
constexpr int kMaxEvidence = 1000;
constexpr size_t kMaxPageTokenBytes = 1024;
constexpr int64_t kMaxTtlSeconds = int64_t{10} * 366 * 24 * 3600;
constexpr double kMaxHalfLifeTokens = 1e15;
constexpr double kMaxBudgetGain = 1e6;
constexpr double kMaxScoreFloor = 1e30;

absl::StatusOr<absl::Duration> TtlFromProto(const google::protobuf::Duration& ttl) {
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("options.ttl.seconds", ttl.seconds(), 0, kMaxTtlSeconds));
  RASQ_RETURN_IF_ERROR(CheckRange<int32_t>("options.ttl.nanos", ttl.nanos(), 0, 999'999'999));
  return absl::Seconds(ttl.seconds()) + absl::Nanoseconds(ttl.nanos());
}

absl::StatusOr<Strategy> StrategyFromProto(v1::Strategy strategy) {
  switch (strategy) {
    case v1::STRATEGY_UNSPECIFIED:
      return Strategy::kDefault;
    case v1::STRATEGY_RASQ:
      return Strategy::kRasq;
    case v1::STRATEGY_FULL:
      return Strategy::kFull;
    case v1::STRATEGY_WINDOW:
      return Strategy::kWindow;
    case v1::STRATEGY_GCA:
      return Strategy::kGca;
    case v1::STRATEGY_RAZOR:
      return Strategy::kRazor;
    case v1::STRATEGY_PYRAMID:
      return Strategy::kPyramid;
    case v1::STRATEGY_RAG:
      return Strategy::kRag;
    case v1::STRATEGY_ATTENTION_RAG:
      return Strategy::kAttentionRag;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("options.strategy=", static_cast<int>(strategy), ": unknown"));
  }
}

absl::StatusOr<RagOptions> RagFromProto(const v1::RagOptions& rag) {
  RagOptions result;
  RASQ_RETURN_IF_ERROR(
      CheckRange<int32_t>("options.rag.chunk_tokens", rag.chunk_tokens(), 0, kMaxRagTokens));
  RASQ_RETURN_IF_ERROR(CheckRange<int32_t>("options.rag.chunks", rag.chunks(), 0, kMaxRagTokens));
  RASQ_RETURN_IF_ERROR(
      CheckRange<int64_t>("options.rag.history_tokens", rag.history_tokens(), 0, INT64_MAX));
  const auto unknown = [](absl::string_view field, int value) {
    return absl::InvalidArgumentError(absl::StrCat("options.rag.", field, "=", value, ": unknown"));
  };
  if (!v1::RagSplit_IsValid(rag.split())) return unknown("split", rag.split());
  if (!v1::RagOrder_IsValid(rag.order())) return unknown("order", rag.order());
  if (!v1::RagRetriever_IsValid(rag.retriever())) return unknown("retriever", rag.retriever());
  result.chunk_tokens = rag.chunk_tokens();
  result.chunks = rag.chunks();
  if (rag.split() == v1::RAG_SPLIT_SENTENCES) result.split = RagSplit::kSentences;
  if (rag.order() == v1::RAG_ORDER_SCORE) result.order = RagOrder::kScore;
  if (rag.retriever() == v1::RAG_RETRIEVER_EMBEDDINGS) {
    result.retriever = RagRetriever::kEmbeddings;
  }
  result.history_tokens = rag.history_tokens();
  return result;
}

absl::StatusOr<AttentionRagOptions> AttentionRagFromProto(const v1::AttentionRagOptions& rag) {
  const auto check = [](absl::string_view field, int64_t value, int64_t most) {
    return CheckRange<int64_t>(absl::StrCat("options.attention_rag.", field), value, 0, most);
  };
  RASQ_RETURN_IF_ERROR(check("chunk_tokens", rag.chunk_tokens(), kMaxRagTokens));
  RASQ_RETURN_IF_ERROR(check("top_tokens", rag.top_tokens(), kMaxRagTokens));
  RASQ_RETURN_IF_ERROR(check("history_tokens", rag.history_tokens(), INT64_MAX));
  const auto size = [](const std::string& text) { return static_cast<int64_t>(text.size()); };
  RASQ_RETURN_IF_ERROR(check("anchor_prompt.size", size(rag.anchor_prompt()), kMaxPromptBytes));
  RASQ_RETURN_IF_ERROR(check("hint_prompt.size", size(rag.hint_prompt()), kMaxPromptBytes));
  RASQ_RETURN_IF_ERROR(check("hint.size", size(rag.hint()), kMaxPromptBytes));
  return AttentionRagOptions{.chunk_tokens = rag.chunk_tokens(),
                             .top_tokens = rag.top_tokens(),
                             .history_tokens = rag.history_tokens(),
                             .anchor_prompt = rag.anchor_prompt(),
                             .hint_prompt = rag.hint_prompt(),
                             .hint = rag.hint()};
}

absl::StatusOr<SessionOptions> OptionsFromProto(const v1::SessionOptions& options) {
  SessionOptions result;
  RASQ_ASSIGN_OR_RETURN(result.strategy, StrategyFromProto(options.strategy()));
  RASQ_ASSIGN_OR_RETURN(result.ttl, TtlFromProto(options.ttl()));
  RASQ_RETURN_IF_ERROR(CheckRange<int32_t>("options.retrieval_budget_tokens",
                                           options.retrieval_budget_tokens(), 0, INT32_MAX));
  RASQ_RETURN_IF_ERROR(CheckRange("options.retrieval_budget_gain", options.retrieval_budget_gain(),
                                  -kMaxBudgetGain, kMaxBudgetGain));
  RASQ_RETURN_IF_ERROR(
      CheckRange("options.half_life_tokens", options.half_life_tokens(), 0.0, kMaxHalfLifeTokens));
  RASQ_RETURN_IF_ERROR(
      CheckRange("options.replacement_noise", options.replacement_noise(), 0.0, 1.0));
  result.budget_tokens = options.retrieval_budget_tokens();
  result.budget_gain = options.retrieval_budget_gain();
  if (options.has_retrieval_score_floor()) {
    RASQ_RETURN_IF_ERROR(CheckRange("options.retrieval_score_floor",
                                    options.retrieval_score_floor(), -kMaxScoreFloor,
                                    kMaxScoreFloor));
    result.score_floor = options.retrieval_score_floor();
  }
  result.half_life_tokens = options.half_life_tokens();
  result.replacement_noise = options.replacement_noise();
  result.seed = options.seed();
  result.priority = options.priority();
  result.ablation = {.no_dsr = options.ablation().no_dsr(),
                     .no_sqa = options.ablation().no_sqa(),
                     .no_rckv = options.ablation().no_rckv()};
  RASQ_ASSIGN_OR_RETURN(result.rag, RagFromProto(options.rag()));
  RASQ_ASSIGN_OR_RETURN(result.attention_rag, AttentionRagFromProto(options.attention_rag()));
  return result;
}

absl::StatusOr<EmbeddingRows> RowsFromProto(const v1::Embeddings& embeddings,
                                            const ModelInfo& model, const ContentLimits& limits,
                                            absl::string_view field) {
  const int64_t bytes = static_cast<int64_t>(embeddings.bfloat16().size());
  const int64_t row_bytes = int64_t{model.hidden} * 2;
  RASQ_RETURN_IF_ERROR(
      CheckRange<int32_t>(absl::StrCat(field, ".rows"), embeddings.rows(), 0, limits.max_tokens));
  if (bytes != embeddings.rows() * row_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(field, ".bfloat16: has ", bytes, " bytes, but ",
                                                   embeddings.rows(), " rows of ", model.hidden,
                                                   " have ", embeddings.rows() * row_bytes));
  }
  EmbeddingRows rows{.rows = embeddings.rows(), .values = std::vector<float>(bytes / 2)};
  for (size_t i = 0; i < rows.values.size(); ++i) {
    bfloat16 value;
    std::memcpy(&value, embeddings.bfloat16().data() + 2 * i, 2);
    rows.values[i] = ToFloat(value);
    if (!std::isfinite(rows.values[i])) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, ".bfloat16: value ", i, " is not finite"));
    }
  }
  return rows;
}

absl::StatusOr<SamplingOptions> SamplingFromProto(const v1::SamplingOptions& sampling) {
  RASQ_RETURN_IF_ERROR(CheckRange("sampling.temperature", sampling.temperature(), 0.0, 100.0));
  RASQ_RETURN_IF_ERROR(CheckRange<int32_t>("sampling.top_k", sampling.top_k(), 0, INT32_MAX));
  RASQ_RETURN_IF_ERROR(CheckRange("sampling.top_p", sampling.top_p(), 0.0, 1.0));
  RASQ_RETURN_IF_ERROR(CheckRange("sampling.min_p", sampling.min_p(), 0.0, 1.0));
  RASQ_RETURN_IF_ERROR(
      CheckRange("sampling.repetition_penalty", sampling.repetition_penalty(), 0.0, 100.0));
  RASQ_RETURN_IF_ERROR(
      CheckRange("sampling.presence_penalty", sampling.presence_penalty(), -100.0, 100.0));
  RASQ_RETURN_IF_ERROR(
      CheckRange("sampling.frequency_penalty", sampling.frequency_penalty(), -100.0, 100.0));
  return SamplingOptions{.temperature = sampling.temperature(),
                         .top_k = sampling.top_k(),
                         .top_p = sampling.top_p(),
                         .min_p = sampling.min_p(),
                         .repetition_penalty = sampling.repetition_penalty(),
                         .presence_penalty = sampling.presence_penalty(),
                         .frequency_penalty = sampling.frequency_penalty(),
                         .has_seed = sampling.has_seed(),
                         .seed = sampling.seed()};
}

absl::StatusOr<StopOptions> StopFromProto(const v1::StopOptions& stop, const ModelInfo& model,
                                          const ContentLimits& limits) {
  RASQ_RETURN_IF_ERROR(
      CheckRange<int32_t>("stop.max_new_tokens", stop.max_new_tokens(), 0, INT32_MAX));
  RASQ_RETURN_IF_ERROR(
      CheckRange<int32_t>("stop.min_new_tokens", stop.min_new_tokens(), 0, INT32_MAX));
  RASQ_RETURN_IF_ERROR(
      CheckRange("stop.stop_strings.size", stop.stop_strings_size(), 0, kMaxStopStrings));
  RASQ_RETURN_IF_ERROR(
      CheckRange("stop.stop_token_ids.size", stop.stop_token_ids_size(), 0, kMaxStopTokenIds));
  for (int i = 0; i < stop.stop_strings_size(); ++i) {
    RASQ_RETURN_IF_ERROR(CheckRange<size_t>(absl::StrCat("stop.stop_strings[", i, "].size"),
                                            stop.stop_strings(i).size(), 1, kMaxStopStringBytes));
  }
  RASQ_RETURN_IF_ERROR(CheckTokenIds(stop.stop_token_ids(), model, limits, "stop.stop_token_ids"));
  return StopOptions{.max_new_tokens = stop.max_new_tokens(),
                     .min_new_tokens = stop.min_new_tokens(),
                     .stop_strings = {stop.stop_strings().begin(), stop.stop_strings().end()},
                     .stop_token_ids = {stop.stop_token_ids().begin(), stop.stop_token_ids().end()},
                     .ignore_eos = stop.ignore_eos(),
                     .include_stop = stop.include_stop()};
}

// What the three calls that make a session say of it alike: its id (empty: the engine's to choose),
// labels and request id.
template <typename Request>
absl::Status CheckNewSession(const Request& request, absl::string_view id,
                             absl::string_view field) {
  if (!id.empty()) RASQ_RETURN_IF_ERROR(CheckId(id, field));
  RASQ_RETURN_IF_ERROR(CheckRange<size_t>("labels.size", request.labels().size(), 0, kMaxLabels));
  for (const auto& [key, value] : request.labels()) {
    RASQ_RETURN_IF_ERROR(CheckRange<size_t>("labels.key.size", key.size(), 1, kMaxLabelKeyBytes));
    RASQ_RETURN_IF_ERROR(
        CheckRange<size_t>("labels.value.size", value.size(), 0, kMaxLabelValueBytes));
  }
  return CheckRange<size_t>("request_id.size", request.request_id().size(), 0, kMaxIdBytes);
}

}  // namespace

absl::Status CheckId(absl::string_view id, absl::string_view field) {
  RASQ_RETURN_IF_ERROR(CheckRange<size_t>(absl::StrCat(field, ".size"), id.size(), 1, kMaxIdBytes));
  for (size_t i = 0; i < id.size(); ++i) {
    if (!absl::ascii_isalnum(id[i]) && id[i] != '.' && id[i] != '_' && id[i] != '-') {
      return absl::InvalidArgumentError(
          absl::StrCat(field, ": byte ", i, " is not one of [A-Za-z0-9._-]"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckText(absl::string_view text, const ContentLimits& limits,
                       absl::string_view field) {
  return CheckRange<int64_t>(absl::StrCat(field, ".size"), static_cast<int64_t>(text.size()), 0,
                             limits.max_text_bytes);
}

absl::Status CheckTokenIds(const google::protobuf::RepeatedField<int32_t>& ids,
                           const ModelInfo& model, const ContentLimits& limits,
                           absl::string_view field) {
  RASQ_RETURN_IF_ERROR(
      CheckRange<int32_t>(absl::StrCat(field, ".size"), ids.size(), 0, limits.max_tokens));
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= model.vocab) {
      return CheckRange(absl::StrCat(field, "[", i, "]"), ids[i], 0, model.vocab - 1);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<CreateSessionRequest> FromProto(const v1::CreateSessionRequest& request,
                                               const std::string& tenant) {
  CreateSessionRequest result;
  RASQ_RETURN_IF_ERROR(CheckNewSession(request, request.session_id(), "session_id"));
  RASQ_ASSIGN_OR_RETURN(result.options, OptionsFromProto(request.options()));
  result.tenant = tenant;
  result.id = request.session_id();
  result.labels = {request.labels().begin(), request.labels().end()};
  result.request_id = request.request_id();
  return result;
}

absl::StatusOr<ForkSessionRequest> FromProto(const v1::ForkSessionRequest& request,
                                             const std::string& tenant) {
  RASQ_RETURN_IF_ERROR(CheckId(request.session_id(), "session_id"));
  RASQ_RETURN_IF_ERROR(CheckNewSession(request, request.new_session_id(), "new_session_id"));
  return ForkSessionRequest{.session = {tenant, request.session_id()},
                            .new_id = request.new_session_id(),
                            .labels = {request.labels().begin(), request.labels().end()},
                            .request_id = request.request_id()};
}

absl::StatusOr<SnapshotRequest> FromProto(const v1::SnapshotSessionRequest& request,
                                          const std::string& tenant) {
  RASQ_RETURN_IF_ERROR(CheckId(request.session_id(), "session_id"));
  if (!request.snapshot_id().empty()) {
    RASQ_RETURN_IF_ERROR(CheckId(request.snapshot_id(), "snapshot_id"));
  }
  return SnapshotRequest{.session = {tenant, request.session_id()},
                         .snapshot_id = request.snapshot_id()};
}

absl::StatusOr<RestoreSessionRequest> FromProto(const v1::RestoreSessionRequest& request,
                                                const std::string& tenant) {
  RASQ_RETURN_IF_ERROR(CheckId(request.snapshot_id(), "snapshot_id"));
  RASQ_RETURN_IF_ERROR(CheckNewSession(request, request.session_id(), "session_id"));
  return RestoreSessionRequest{.snapshot = {tenant, request.snapshot_id()},
                               .session_id = request.session_id(),
                               .labels = {request.labels().begin(), request.labels().end()},
                               .request_id = request.request_id()};
}

absl::Status CheckPage(int32_t page_size, absl::string_view page_token) {
  RASQ_RETURN_IF_ERROR(CheckRange<int32_t>("page_size", page_size, 0, kMaxPageSize));
  return CheckRange<size_t>("page_token.size", page_token.size(), 0, kMaxPageTokenBytes);
}

absl::StatusOr<Content> TakeContent(v1::Content& content, const ModelInfo& model,
                                    const ContentLimits& limits, absl::string_view field) {
  switch (content.kind_case()) {
    case v1::Content::kText:
      RASQ_RETURN_IF_ERROR(CheckText(content.text(), limits, absl::StrCat(field, ".text")));
      return Content(std::move(*content.mutable_text()));
    case v1::Content::kTokenIds: {
      const auto& ids = content.token_ids().ids();
      RASQ_RETURN_IF_ERROR(
          CheckTokenIds(ids, model, limits, absl::StrCat(field, ".token_ids.ids")));
      return Content(std::vector<int32_t>(ids.begin(), ids.end()));
    }
    case v1::Content::kEmbeddings: {
      RASQ_ASSIGN_OR_RETURN(EmbeddingRows rows, RowsFromProto(content.embeddings(), model, limits,
                                                              absl::StrCat(field, ".embeddings")));
      return Content(std::move(rows));
    }
    case v1::Content::KIND_NOT_SET:
      break;
  }
  return Content();
}

absl::StatusOr<AppendRequest> TakeAppend(v1::AppendRequest& request, const ModelInfo& model,
                                         const ContentLimits& limits) {
  AppendRequest result;
  RASQ_RETURN_IF_ERROR(CheckId(request.session_id(), "session_id"));
  if (request.content().kind_case() == v1::Content::KIND_NOT_SET) {
    return absl::InvalidArgumentError("content: one of text, token_ids, embeddings must be set");
  }
  RASQ_ASSIGN_OR_RETURN(result.content,
                        TakeContent(*request.mutable_content(), model, limits, "content"));
  if (request.has_offset()) {
    RASQ_RETURN_IF_ERROR(CheckRange<int64_t>("offset", request.offset(), 0, INT64_MAX));
    result.offset = request.offset();
  }
  result.session = request.session_id();
  result.pinned = request.pinned();
  result.score = request.score();
  return result;
}

absl::StatusOr<GenerateRequest> TakeGenerate(v1::GenerateRequest& request, const ModelInfo& model,
                                             const ContentLimits& limits) {
  GenerateRequest result;
  RASQ_RETURN_IF_ERROR(CheckId(request.session_id(), "session_id"));
  RASQ_ASSIGN_OR_RETURN(result.sampling, SamplingFromProto(request.sampling()));
  RASQ_ASSIGN_OR_RETURN(result.stop, StopFromProto(request.stop(), model, limits));
  if (!v1::CommitOutput_IsValid(request.commit_output())) {
    return absl::InvalidArgumentError(
        absl::StrCat("commit_output=", static_cast<int>(request.commit_output()), ": unknown"));
  }
  RASQ_RETURN_IF_ERROR(CheckRange<int32_t>("logprobs", request.logprobs(), 0, kMaxLogprobs));
  RASQ_RETURN_IF_ERROR(CheckRange<int32_t>("evidence", request.evidence(), 0, kMaxEvidence));
  if (request.has_prompt()) {
    RASQ_ASSIGN_OR_RETURN(result.prompt,
                          TakeContent(*request.mutable_prompt(), model, limits, "prompt"));
  }
  result.session = request.session_id();
  result.commit = request.commit_output() == v1::COMMIT_OUTPUT_COMMIT;
  result.logprobs = request.logprobs();
  result.evidence = request.evidence();
  return result;
}

}  // namespace rasq
