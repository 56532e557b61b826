#include "client/commands/json.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"

namespace rasq::client {
namespace {

std::string Time(const google::protobuf::Timestamp& time) {
  return absl::FormatTime(absl::RFC3339_sec, absl::FromUnixSeconds(time.seconds()),
                          absl::UTCTimeZone());
}

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9;
}

std::string Strip(const std::string& name, absl::string_view prefix) {
  return absl::AsciiStrToLower(absl::StripPrefix(name, prefix));
}

}  // namespace

std::string ShortName(v1::SessionState state) {
  return Strip(v1::SessionState_Name(state), "SESSION_STATE_");
}
std::string ShortName(v1::Strategy strategy) {
  return Strip(v1::Strategy_Name(strategy), "STRATEGY_");
}
std::string ShortName(v1::RagSplit split) { return Strip(v1::RagSplit_Name(split), "RAG_SPLIT_"); }
std::string ShortName(v1::RagOrder order) { return Strip(v1::RagOrder_Name(order), "RAG_ORDER_"); }
std::string ShortName(v1::RagRetriever retriever) {
  return Strip(v1::RagRetriever_Name(retriever), "RAG_RETRIEVER_");
}
std::string ShortName(v1::FinishReason reason) {
  return Strip(v1::FinishReason_Name(reason), "FINISH_REASON_");
}

Json ToJson(const v1::Session& s) {
  const v1::SessionOptions& o = s.options();
  Json json = {{"session_id", s.session_id()},         {"state", ShortName(s.state())},
               {"context_tokens", s.context_tokens()}, {"backlog_tokens", s.backlog_tokens()},
               {"next_offset", s.next_offset()},       {"state_bytes", s.state_bytes()},
               {"create_time", Time(s.create_time())}, {"last_use_time", Time(s.last_use_time())}};
  if (s.has_expire_time()) json["expire_time"] = Time(s.expire_time());
  Json labels = Json::object();
  for (const auto& [key, value] : s.labels()) labels[key] = value;
  json["labels"] = std::move(labels);
  json["options"] = {{"strategy", ShortName(o.strategy())},
                     {"ttl_seconds", Seconds(o.ttl())},
                     {"retrieval_budget_tokens", o.retrieval_budget_tokens()},
                     {"retrieval_budget_gain", o.retrieval_budget_gain()},
                     {"half_life_tokens", o.half_life_tokens()},
                     {"replacement_noise", o.replacement_noise()},
                     {"seed", o.seed()},
                     {"priority", o.priority()}};
  if (o.has_ablation()) {
    json["options"]["ablation"] = {{"no_dsr", o.ablation().no_dsr()},
                                   {"no_sqa", o.ablation().no_sqa()},
                                   {"no_rckv", o.ablation().no_rckv()}};
  }
  if (o.has_rag()) {
    json["options"]["rag"] = {{"chunk_tokens", o.rag().chunk_tokens()},
                              {"chunks", o.rag().chunks()},
                              {"split", ShortName(o.rag().split())},
                              {"order", ShortName(o.rag().order())},
                              {"retriever", ShortName(o.rag().retriever())},
                              {"history_tokens", o.rag().history_tokens()}};
  }
  if (o.has_attention_rag()) {
    const v1::AttentionRagOptions& rag = o.attention_rag();
    json["options"]["attention_rag"] = {
        {"chunk_tokens", rag.chunk_tokens()},     {"top_tokens", rag.top_tokens()},
        {"history_tokens", rag.history_tokens()}, {"anchor_prompt", rag.anchor_prompt()},
        {"hint_prompt", rag.hint_prompt()},       {"hint", rag.hint()}};
  }
  return json;
}

Json ToJson(const v1::GetModelResponse& m) {
  return {{"name", m.name()},
          {"architecture", m.architecture()},
          {"fingerprint", m.fingerprint()},
          {"parameters", m.parameters()},
          {"vocab_size", m.vocab_size()},
          {"hidden_size", m.hidden_size()},
          {"layers", m.layers()},
          {"window_tokens", m.window_tokens()},
          {"segment_tokens", m.segment_tokens()},
          {"buffer_capacity_tokens", m.buffer_capacity_tokens()},
          {"retrieval_budget_tokens", m.retrieval_budget_tokens()},
          {"max_retrieval_budget_tokens", m.max_retrieval_budget_tokens()},
          {"session_state_bytes", m.session_state_bytes()},
          {"session_slots", m.session_slots()},
          {"device", m.device()},
          {"dtype", m.dtype()},
          {"entry_type", m.entry_type()},
          {"server_version", m.server_version()}};
}

Json ToJson(const v1::Snapshot& s) {
  return {{"snapshot_id", s.snapshot_id()},       {"session_id", s.session_id()},
          {"create_time", Time(s.create_time())}, {"context_tokens", s.context_tokens()},
          {"next_offset", s.next_offset()},       {"file_bytes", s.file_bytes()}};
}

Json ToJson(const v1::GetServerInfoResponse& i) {
  Json devices = Json::array();
  for (const v1::Device& d : i.devices()) {
    devices.push_back({{"device", d.device()},
                       {"session_slots", d.session_slots()},
                       {"session_slots_used", d.session_slots_used()},
                       {"generation_slots", d.generation_slots()},
                       {"weight_bytes", d.weight_bytes()},
                       {"workspace_bytes", d.workspace_bytes()},
                       {"session_bytes", d.session_bytes()}});
  }
  return {{"server_version", i.server_version()},
          {"start_time", Time(i.start_time())},
          {"draining", i.draining()},
          {"durable", i.durable()},
          {"devices", std::move(devices)},
          {"sessions_open", i.sessions_open()},
          {"sessions_active", i.sessions_active()},
          {"sessions_parked_host", i.sessions_parked_host()},
          {"sessions_parked_disk", i.sessions_parked_disk()},
          {"max_sessions_open", i.max_sessions_open()},
          {"backlog_tokens", i.backlog_tokens()},
          {"max_backlog_tokens", i.max_backlog_tokens()},
          {"max_session_backlog_tokens", i.max_session_backlog_tokens()},
          {"generations_running", i.generations_running()},
          {"generations_queued", i.generations_queued()},
          {"max_generations_queued", i.max_generations_queued()},
          {"max_message_bytes", i.max_message_bytes()}};
}

Json ToJson(const v1::Evidence& e) {
  return {{"position", e.position()}, {"score", e.score()}, {"text", e.text()}};
}

Json ToJson(const v1::GeneratedToken& t) {
  Json alternatives = Json::array();
  for (const v1::TokenLogprob& a : t.alternatives()) {
    alternatives.push_back({{"token_id", a.token_id()}, {"logprob", a.logprob()}});
  }
  return {{"token_id", t.token_id()},
          {"logprob", t.logprob()},
          {"alternatives", std::move(alternatives)}};
}

Json ToJson(const v1::GenerateSummary& s) {
  Json evidence = Json::array();
  for (const v1::Evidence& e : s.evidence()) evidence.push_back(ToJson(e));
  return {{"finish_reason", ShortName(s.finish_reason())},
          {"context_tokens", s.context_tokens()},
          {"prompt_tokens", s.prompt_tokens()},
          {"output_tokens", s.output_tokens()},
          {"retrieved_tokens", s.retrieved_tokens()},
          {"queue_seconds", Seconds(s.queue_time())},
          {"time_to_first_token_seconds", Seconds(s.time_to_first_token())},
          {"total_seconds", Seconds(s.total_time())},
          {"evidence", std::move(evidence)}};
}

void PrintJson(const Json& json) {
  // A byte that is no UTF-8 cannot come from the server; replacing is for error texts.
  const std::string line =
      json.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
  std::puts(line.c_str());
  std::fflush(stdout);
}

void PrintFields(const Json& json) {
  size_t width = 0;
  for (const auto& [key, unused] : json.items()) width = std::max(width, key.size());
  for (const auto& [key, value] : json.items()) {
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    absl::PrintF("%-*s  %s\n", static_cast<int>(width), key, text);
  }
}

}  // namespace rasq::client
