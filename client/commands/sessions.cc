#include <cstdio>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands/command.h"
#include "client/commands/json.h"
#include "client/commands/progress.h"

namespace rasq::client {
namespace {

template <typename T>
absl::Status Print(const Context& context, const absl::StatusOr<T>& result) {
  if (!result.ok()) return result.status();
  const Json json = ToJson(*result);
  context.json ? PrintJson(json) : PrintFields(json);
  return absl::OkStatus();
}

// Which of `values` the flag names.
template <typename Enum>
absl::StatusOr<Enum> ParseChoice(const char* flag, const std::string& name,
                                 const std::vector<Enum>& values) {
  std::string names;
  for (const Enum value : values) {
    if (ShortName(value) == name) return value;
    absl::StrAppend(&names, names.empty() ? "" : "|", ShortName(value));
  }
  return UsageError(absl::StrCat("--", flag, "=", name, ": not one of ", names));
}

template <typename Request>
absl::Status FillLabels(const std::vector<std::string>& labels, Request* request) {
  for (const std::string& label : labels) {
    const size_t equals = label.find('=');
    if (equals == std::string::npos) {
      return UsageError(absl::StrCat("--label=", label, ": not KEY=VALUE"));
    }
    (*request->mutable_labels())[label.substr(0, equals)] = label.substr(equals + 1);
  }
  return absl::OkStatus();
}

// Of the flags of `create` those of strategy rag.
struct RagFlags {
  std::optional<std::string> split, order, retriever;
  std::optional<int32_t> chunk_tokens, chunks;
  std::optional<int64_t> history_tokens;

  void AddTo(FlagSet* flags) {
    flags->Add("rag-chunk-tokens", 0, &chunk_tokens, "N tokens of a chunk, or most of a sentence");
    flags->Add("rag-chunks", 0, &chunks, "N chunks that an answer reads");
    flags->Add("rag-split", 0, &split, "tokens|sentences: what chunks are");
    flags->Add("rag-order", 0, &order, "chronological|score: how they stand, best first by score");
    flags->Add("rag-retriever", 0, &retriever, "bm25|embeddings: how they are found");
    flags->Add("rag-history-tokens", 0, &history_tokens, "N newest tokens are kept; 0: all");
  }

  absl::Status Fill(v1::SessionOptions* options) const {
    // Only if one is given: the server refuses them of other strategies.
    if (chunk_tokens.has_value()) {
      options->mutable_rag()->set_chunk_tokens(*chunk_tokens);
    }
    if (chunks.has_value()) options->mutable_rag()->set_chunks(*chunks);
    if (history_tokens.has_value()) options->mutable_rag()->set_history_tokens(*history_tokens);
    if (split.has_value()) {
      const auto value = ParseChoice<v1::RagSplit>("rag-split", *split,
                                                   {v1::RAG_SPLIT_TOKENS, v1::RAG_SPLIT_SENTENCES});
      if (!value.ok()) return value.status();
      options->mutable_rag()->set_split(*value);
    }
    if (order.has_value()) {
      const auto value = ParseChoice<v1::RagOrder>(
          "rag-order", *order, {v1::RAG_ORDER_CHRONOLOGICAL, v1::RAG_ORDER_SCORE});
      if (!value.ok()) return value.status();
      options->mutable_rag()->set_order(*value);
    }
    if (retriever.has_value()) {
      const auto value = ParseChoice<v1::RagRetriever>(
          "rag-retriever", *retriever, {v1::RAG_RETRIEVER_BM25, v1::RAG_RETRIEVER_EMBEDDINGS});
      if (!value.ok()) return value.status();
      options->mutable_rag()->set_retriever(*value);
    }
    return absl::OkStatus();
  }
};

// Of the flags of `create` those of strategy attention_rag.
struct AttentionRagFlags {
  std::optional<std::string> anchor_prompt, hint_prompt, hint;
  std::optional<int32_t> chunk_tokens, top_tokens;
  std::optional<int64_t> history_tokens;

  void AddTo(FlagSet* flags) {
    flags->Add("attention-rag-chunk-tokens", 0, &chunk_tokens, "N tokens of a chunk");
    flags->Add("attention-rag-top-tokens", 0, &top_tokens, "N of a chunk whose sentences are read");
    flags->Add("attention-rag-history-tokens", 0, &history_tokens,
               "N newest tokens are kept; 0: all");
    flags->Add("attention-rag-anchor-prompt", 0, &anchor_prompt,
               "TEXT with {chunk}, {question} and {hint}");
    flags->Add("attention-rag-hint-prompt", 0, &hint_prompt,
               "TEXT with {question}: asks how the answer begins");
    flags->Add("attention-rag-hint", 0, &hint, "TEXT that the answer begins with");
  }

  // Only if one is given: the server refuses them of other strategies.
  void Fill(v1::SessionOptions* options) const {
    const auto rag = [&] { return options->mutable_attention_rag(); };
    if (chunk_tokens.has_value()) rag()->set_chunk_tokens(*chunk_tokens);
    if (top_tokens.has_value()) rag()->set_top_tokens(*top_tokens);
    if (history_tokens.has_value()) rag()->set_history_tokens(*history_tokens);
    if (anchor_prompt.has_value()) rag()->set_anchor_prompt(*anchor_prompt);
    if (hint_prompt.has_value()) rag()->set_hint_prompt(*hint_prompt);
    if (hint.has_value()) rag()->set_hint(*hint);
  }
};

// The flags of `create`: what is not given is the server's to decide.
struct CreateFlags {
  std::optional<std::string> strategy;
  std::optional<absl::Duration> ttl;
  std::optional<int32_t> retrieval_budget_tokens, priority;
  std::optional<int64_t> seed;
  std::optional<double> retrieval_budget_gain, retrieval_score_floor, half_life_tokens,
      replacement_noise;
  bool no_dsr = false, no_sqa = false, no_rckv = false;
  RagFlags rag;
  AttentionRagFlags attention_rag;
  std::vector<std::string> labels;

  void AddTo(FlagSet* flags) {
    flags->Add("strategy", 0, &strategy,
               "rasq|full|window|rag|attention_rag|razor|pyramid|gca: how it remembers");
    flags->Add("ttl", 0, &ttl, "DURATION such as 30m: idle time after which it is deleted");
    flags->Add("retrieval-budget-tokens", 0, &retrieval_budget_tokens, "N tokens read from memory");
    flags->Add("retrieval-budget-gain", 0, &retrieval_budget_gain, "X, more for hard queries");
    flags->Add("retrieval-score-floor", 0, &retrieval_score_floor, "X, what scores less is unread");
    flags->Add("half-life-tokens", 0, &half_life_tokens, "N, how fast old context loses priority");
    flags->Add("replacement-noise", 0, &replacement_noise, "X from 0 to 1 in what is forgotten");
    flags->Add("seed", 0, &seed, "N of replacement and sampling");
    flags->Add("priority", 0, &priority, "N, higher first");
    flags->Add("no-dsr", 0, &no_dsr, "rasq without its retriever: the newest entries are read");
    flags->Add("no-sqa", 0, &no_sqa, "rasq without clusters: entries are read exactly");
    flags->Add("no-rckv", 0, &no_rckv, "rasq without its cache: exact entries, by age");
    rag.AddTo(flags);
    attention_rag.AddTo(flags);
    flags->Add("label", 'l', &labels, "KEY=VALUE; may be given again");
  }

  absl::Status Fill(v1::CreateSessionRequest* request) const {
    v1::SessionOptions& options = *request->mutable_options();
    if (strategy.has_value()) {
      const auto value = ParseChoice<v1::Strategy>(
          "strategy", *strategy,
          {v1::STRATEGY_RASQ, v1::STRATEGY_FULL, v1::STRATEGY_WINDOW, v1::STRATEGY_RAG,
           v1::STRATEGY_ATTENTION_RAG, v1::STRATEGY_RAZOR, v1::STRATEGY_PYRAMID, v1::STRATEGY_GCA});
      if (!value.ok()) return value.status();
      options.set_strategy(*value);
    }
    if (ttl.has_value()) SetDuration(*ttl, options.mutable_ttl());
    if (retrieval_budget_tokens.has_value()) {
      options.set_retrieval_budget_tokens(*retrieval_budget_tokens);
    }
    // Zero would switch the gain off: negative asks for the model's.
    options.set_retrieval_budget_gain(retrieval_budget_gain.value_or(-1));
    if (retrieval_score_floor.has_value()) {
      options.set_retrieval_score_floor(*retrieval_score_floor);
    }
    options.set_half_life_tokens(half_life_tokens.value_or(0));
    options.set_replacement_noise(replacement_noise.value_or(0));
    options.set_seed(seed.value_or(0));
    options.set_priority(priority.value_or(0));
    if (no_dsr || no_sqa || no_rckv) {
      options.mutable_ablation()->set_no_dsr(no_dsr);
      options.mutable_ablation()->set_no_sqa(no_sqa);
      options.mutable_ablation()->set_no_rckv(no_rckv);
    }
    if (absl::Status status = rag.Fill(&options); !status.ok()) return status;
    attention_rag.Fill(&options);
    return FillLabels(labels, request);
  }
};

absl::Status List(const Context& context) {
  const absl::StatusOr<std::vector<v1::Session>> sessions = Client(context.client).ListSessions();
  if (!sessions.ok()) return sessions.status();
  if (!context.json) {
    absl::PrintF("%-32s %-9s %12s %10s %10s\n", "SESSION", "STATE", "TOKENS", "BACKLOG", "BYTES");
  }
  for (const v1::Session& session : *sessions) {
    if (context.json) {
      PrintJson(ToJson(session));
    } else {
      absl::PrintF("%-32s %-9s %12d %10d %10s\n", session.session_id(), ShortName(session.state()),
                   session.context_tokens(), session.backlog_tokens(),
                   ShortCount(static_cast<double>(session.state_bytes())));
    }
  }
  return absl::OkStatus();
}

absl::Status Create(const Context& context, const std::string& session_id,
                    const CreateFlags& flags) {
  v1::CreateSessionRequest request;
  request.set_session_id(session_id);
  if (absl::Status status = flags.Fill(&request); !status.ok()) return status;
  return Print(context, Client(context.client).CreateSession(request));
}

absl::Status Fork(const Context& context, const std::string& session_id, const std::string& new_id,
                  const CreateFlags& flags) {
  v1::ForkSessionRequest request;
  request.set_session_id(session_id);
  request.set_new_session_id(new_id);
  if (absl::Status status = FillLabels(flags.labels, &request); !status.ok()) return status;
  return Print(context, Client(context.client).ForkSession(request));
}

absl::Status Restore(const Context& context, const std::string& snapshot_id,
                     const std::string& session_id, const CreateFlags& flags) {
  v1::RestoreSessionRequest request;
  request.set_snapshot_id(snapshot_id);
  request.set_session_id(session_id);
  if (absl::Status status = FillLabels(flags.labels, &request); !status.ok()) return status;
  return Print(context, Client(context.client).RestoreSession(request));
}

absl::Status Delete(const Context& context, const std::string& session_id) {
  absl::Status status = Client(context.client).DeleteSession(session_id);
  if (status.ok() && context.json) PrintJson({{"session_id", session_id}});
  return status;
}

}  // namespace

absl::Status RunSessions(Context& context, const Arguments& arguments) {
  CreateFlags create_flags;
  FlagSet flags(
      "sessions list | get SESSION | create [SESSION] | fork SESSION [NEW] |\n"
      "                     snapshot SESSION [SNAPSHOT] | restore SNAPSHOT [SESSION] |\n"
      "                     delete SESSION...",
      "Lists, shows, creates, copies and deletes sessions. The flags are create's; --label is "
      "also\n"
      "fork's and restore's.");
  AddGlobalFlags(&context, &flags);
  create_flags.AddTo(&flags);
  const absl::StatusOr<Arguments> operands = flags.Parse(arguments);
  if (!operands.ok()) return operands.status();
  if (flags.help_asked()) {
    std::fputs(flags.Help().c_str(), stdout);
    return absl::OkStatus();
  }
  const std::string verb = operands->empty() ? "" : operands->front();
  const size_t count = operands->empty() ? 0 : operands->size() - 1;
  if (verb == "list" && count == 0) return List(context);
  const std::string first = count > 0 ? (*operands)[1] : "";
  const std::string second = count > 1 ? (*operands)[2] : "";
  const bool one_or_two = count == 1 || count == 2;
  if (verb == "get" && count == 1) return Print(context, Client(context.client).GetSession(first));
  if (verb == "create" && count <= 1) return Create(context, first, create_flags);
  if (verb == "fork" && one_or_two) return Fork(context, first, second, create_flags);
  if (verb == "snapshot" && one_or_two) {
    return Print(context, Client(context.client).SnapshotSession(first, second));
  }
  if (verb == "restore" && one_or_two) return Restore(context, first, second, create_flags);
  if (verb == "delete" && count > 0) {
    for (size_t i = 1; i <= count; ++i) {
      if (absl::Status status = Delete(context, (*operands)[i]); !status.ok()) return status;
    }
    return absl::OkStatus();
  }
  return UsageError(
      "sessions wants list, get SESSION, create [SESSION], fork SESSION [NEW], snapshot SESSION "
      "[SNAPSHOT], restore SNAPSHOT [SESSION] or delete SESSION...");
}

}  // namespace rasq::client
