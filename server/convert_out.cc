#include <cmath>

#include "absl/time/time.h"
#include "server/convert.h"

namespace rasq {
namespace {

v1::Strategy ToProto(Strategy strategy) {
  switch (strategy) {
    case Strategy::kDefault:
      return v1::STRATEGY_UNSPECIFIED;
    case Strategy::kRasq:
      return v1::STRATEGY_RASQ;
    case Strategy::kFull:
      return v1::STRATEGY_FULL;
    case Strategy::kWindow:
      return v1::STRATEGY_WINDOW;
    case Strategy::kGca:
      return v1::STRATEGY_GCA;
    case Strategy::kRazor:
      return v1::STRATEGY_RAZOR;
    case Strategy::kPyramid:
      return v1::STRATEGY_PYRAMID;
    case Strategy::kRag:
      return v1::STRATEGY_RAG;
    case Strategy::kAttentionRag:
      return v1::STRATEGY_ATTENTION_RAG;
  }
  return v1::STRATEGY_UNSPECIFIED;
}

void SetRag(const RagOptions& rag, v1::RagOptions& proto) {
  proto.set_chunk_tokens(rag.chunk_tokens);
  proto.set_chunks(rag.chunks);
  proto.set_split(rag.split == RagSplit::kTokens ? v1::RAG_SPLIT_TOKENS : v1::RAG_SPLIT_SENTENCES);
  proto.set_order(rag.order == RagOrder::kScore ? v1::RAG_ORDER_SCORE
                                                : v1::RAG_ORDER_CHRONOLOGICAL);
  proto.set_retriever(rag.retriever == RagRetriever::kBm25 ? v1::RAG_RETRIEVER_BM25
                                                           : v1::RAG_RETRIEVER_EMBEDDINGS);
  proto.set_history_tokens(rag.history_tokens);
}

void SetAttentionRag(const AttentionRagOptions& rag, v1::AttentionRagOptions& proto) {
  proto.set_chunk_tokens(rag.chunk_tokens);
  proto.set_top_tokens(rag.top_tokens);
  proto.set_history_tokens(rag.history_tokens);
  proto.set_anchor_prompt(rag.anchor_prompt);
  proto.set_hint_prompt(rag.hint_prompt);
  proto.set_hint(rag.hint);
}

v1::SessionState ToProto(SessionState state) {
  switch (state) {
    case SessionState::kActive:
      return v1::SESSION_STATE_ACTIVE;
    case SessionState::kParked:
      return v1::SESSION_STATE_PARKED;
    case SessionState::kDeleting:
      return v1::SESSION_STATE_DELETING;
    case SessionState::kFailed:
      return v1::SESSION_STATE_FAILED;
  }
  return v1::SESSION_STATE_UNSPECIFIED;
}

void SetDuration(absl::Duration duration, google::protobuf::Duration& proto) {
  absl::Duration rest;
  proto.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
}

}  // namespace

void SetTime(absl::Time time, google::protobuf::Timestamp& proto) {
  const int64_t seconds = absl::ToUnixSeconds(time);
  proto.set_seconds(seconds);
  proto.set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
}

v1::Session ToProto(const SessionInfo& session) {
  v1::Session proto;
  proto.set_session_id(session.id);
  SetTime(session.create_time, *proto.mutable_create_time());
  SetTime(session.last_use_time, *proto.mutable_last_use_time());
  if (session.expire_time != absl::InfiniteFuture()) {
    SetTime(session.expire_time, *proto.mutable_expire_time());
  }
  proto.mutable_labels()->insert(session.labels.begin(), session.labels.end());
  v1::SessionOptions& options = *proto.mutable_options();
  options.set_strategy(ToProto(session.options.strategy));
  SetDuration(session.options.ttl, *options.mutable_ttl());
  options.set_retrieval_budget_tokens(session.options.budget_tokens);
  options.set_retrieval_budget_gain(session.options.budget_gain);
  if (std::isfinite(session.options.score_floor)) {
    options.set_retrieval_score_floor(session.options.score_floor);
  }
  options.set_half_life_tokens(session.options.half_life_tokens);
  options.set_replacement_noise(session.options.replacement_noise);
  options.set_seed(session.options.seed);
  options.set_priority(session.options.priority);
  if (const Ablation& ablation = session.options.ablation; ablation.any()) {
    options.mutable_ablation()->set_no_dsr(ablation.no_dsr);
    options.mutable_ablation()->set_no_sqa(ablation.no_sqa);
    options.mutable_ablation()->set_no_rckv(ablation.no_rckv);
  }
  if (session.options.strategy == Strategy::kRag) {
    SetRag(session.options.rag, *options.mutable_rag());
  }
  if (session.options.strategy == Strategy::kAttentionRag) {
    SetAttentionRag(session.options.attention_rag, *options.mutable_attention_rag());
  }
  proto.set_state(ToProto(session.state));
  proto.set_context_tokens(session.context_tokens);
  proto.set_backlog_tokens(session.backlog_tokens);
  proto.set_next_offset(session.next_offset);
  proto.set_state_bytes(session.state_bytes);
  return proto;
}

v1::Snapshot ToProto(const SnapshotInfo& snapshot) {
  v1::Snapshot proto;
  proto.set_snapshot_id(snapshot.id);
  SetTime(snapshot.create_time, *proto.mutable_create_time());
  proto.set_session_id(snapshot.session_id);
  proto.set_context_tokens(snapshot.context_tokens);
  proto.set_next_offset(snapshot.next_offset);
  proto.set_file_bytes(snapshot.file_bytes);
  return proto;
}

v1::AppendResponse ToProto(const AppendResult& result) {
  v1::AppendResponse proto;
  proto.set_appended_tokens(result.appended_tokens);
  proto.set_context_tokens(result.context_tokens);
  proto.set_next_offset(result.next_offset);
  proto.set_scored_tokens(result.scored_tokens);
  proto.set_logprob_sum(result.logprob_sum);
  return proto;
}

void MergeChunk(const GenerateChunk& chunk, v1::GenerateResponse& message) {
  message.mutable_text()->append(chunk.text);
  for (const GeneratedToken& token : chunk.tokens) {
    v1::GeneratedToken& proto = *message.add_tokens();
    proto.set_token_id(token.token_id);
    proto.set_logprob(token.logprob);
    for (const TokenLogprob& alternative : token.alternatives) {
      v1::TokenLogprob& logprob = *proto.add_alternatives();
      logprob.set_token_id(alternative.token_id);
      logprob.set_logprob(alternative.logprob);
    }
  }
}

v1::GenerateSummary ToProto(const GenerateSummary& summary) {
  v1::GenerateSummary proto;
  proto.set_finish_reason(summary.finish_reason == FinishReason::kStop ? v1::FINISH_REASON_STOP
                                                                       : v1::FINISH_REASON_LENGTH);
  proto.set_context_tokens(summary.context_tokens);
  proto.set_prompt_tokens(summary.prompt_tokens);
  proto.set_output_tokens(summary.output_tokens);
  proto.set_retrieved_tokens(summary.retrieved_tokens);
  for (const Evidence& evidence : summary.evidence) {
    v1::Evidence& item = *proto.add_evidence();
    item.set_position(evidence.position);
    item.set_text(evidence.text);
    item.set_score(evidence.score);
  }
  SetDuration(summary.queue_time, *proto.mutable_queue_time());
  SetDuration(summary.time_to_first_token, *proto.mutable_time_to_first_token());
  SetDuration(summary.total_time, *proto.mutable_total_time());
  return proto;
}

v1::GetModelResponse ToProto(const ModelInfo& model) {
  v1::GetModelResponse proto;
  proto.set_name(model.name);
  proto.set_architecture(model.architecture);
  proto.set_fingerprint(model.fingerprint);
  proto.set_parameters(model.parameters);
  proto.set_vocab_size(model.vocab);
  proto.set_hidden_size(model.hidden);
  proto.set_layers(model.layers);
  proto.set_window_tokens(model.window_tokens);
  proto.set_segment_tokens(model.segment_tokens);
  proto.set_buffer_capacity_tokens(model.capacity_tokens);
  proto.set_retrieval_budget_tokens(model.budget_tokens);
  proto.set_max_retrieval_budget_tokens(model.max_budget_tokens);
  proto.set_session_state_bytes(model.session_state_bytes);
  proto.set_session_slots(model.session_slots);
  proto.set_device(model.device);
  proto.set_server_version(RASQ_VERSION);
  proto.set_dtype(model.dtype);
  proto.set_entry_type(model.entry_type);
  return proto;
}

v1::Device ToProto(const ModelInfo& model, const EngineStats& stats) {
  v1::Device proto;
  proto.set_device(model.device);
  proto.set_session_slots(stats.slots_total);
  proto.set_session_slots_used(stats.slots_used);
  proto.set_generation_slots(stats.work_slots);
  proto.set_weight_bytes(stats.weight_bytes);
  proto.set_workspace_bytes(stats.workspace_bytes);
  proto.set_session_bytes(stats.session_bytes);
  return proto;
}

}  // namespace rasq
