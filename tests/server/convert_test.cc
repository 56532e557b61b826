#include "server/convert.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/grpc_status.h"

namespace rasq {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

ModelInfo SmallModel() {
  ModelInfo model;
  model.vocab = 100;
  model.hidden = 2;
  return model;
}

// The field that the error blames, or "OK".
std::string Blamed(const absl::Status& status) {
  if (status.ok()) return "OK";
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(FieldOf(status.message()));
}

TEST(ConvertTest, SessionIds) {
  EXPECT_TRUE(CheckId("a", "session_id").ok());
  EXPECT_TRUE(CheckId("Aa0._-", "session_id").ok());
  EXPECT_TRUE(CheckId(std::string(128, 'x'), "session_id").ok());
  for (const std::string& id : {std::string(), std::string(129, 'x'), std::string("a b"),
                                std::string("a/b"), std::string("a\0", 2), std::string("\u00e9")}) {
    EXPECT_THAT(Blamed(CheckId(id, "session_id")), HasSubstr("session_id")) << id;
  }
}

TEST(ConvertTest, CreateSession) {
  v1::CreateSessionRequest request;
  request.set_session_id("news");
  request.set_request_id("r-1");
  (*request.mutable_labels())["team"] = "wire";
  v1::SessionOptions& options = *request.mutable_options();
  options.set_strategy(v1::STRATEGY_WINDOW);
  options.mutable_ttl()->set_seconds(90);
  options.mutable_ttl()->set_nanos(500'000'000);
  options.set_retrieval_budget_tokens(64);
  options.set_retrieval_budget_gain(-1);
  options.set_retrieval_score_floor(-4.5);
  options.set_half_life_tokens(1000);
  options.set_replacement_noise(0.5);
  options.set_seed(-7);
  options.set_priority(3);
  options.mutable_ablation()->set_no_sqa(true);
  options.mutable_rag()->set_chunk_tokens(100);
  options.mutable_rag()->set_chunks(7);
  options.mutable_rag()->set_split(v1::RAG_SPLIT_SENTENCES);
  options.mutable_rag()->set_order(v1::RAG_ORDER_SCORE);
  options.mutable_rag()->set_retriever(v1::RAG_RETRIEVER_EMBEDDINGS);
  options.mutable_rag()->set_history_tokens(5000);
  const absl::StatusOr<CreateSessionRequest> converted = FromProto(request, "desk");
  ASSERT_TRUE(converted.ok()) << converted.status();
  EXPECT_EQ(converted->tenant, "desk");
  EXPECT_EQ(converted->id, "news");
  EXPECT_EQ(converted->request_id, "r-1");
  EXPECT_EQ(converted->labels.at("team"), "wire");
  EXPECT_EQ(converted->options.strategy, Strategy::kWindow);
  EXPECT_EQ(converted->options.ttl, absl::Milliseconds(90500));
  EXPECT_EQ(converted->options.budget_tokens, 64);
  EXPECT_EQ(converted->options.budget_gain, -1);
  EXPECT_EQ(converted->options.score_floor, -4.5);
  EXPECT_EQ(converted->options.half_life_tokens, 1000);
  EXPECT_EQ(converted->options.replacement_noise, 0.5);
  EXPECT_EQ(converted->options.seed, -7);
  EXPECT_EQ(converted->options.priority, 3);
  EXPECT_FALSE(converted->options.ablation.no_dsr);
  EXPECT_TRUE(converted->options.ablation.no_sqa);
  EXPECT_FALSE(converted->options.ablation.no_rckv);
  EXPECT_EQ(converted->options.rag, (RagOptions{.chunk_tokens = 100,
                                                .chunks = 7,
                                                .split = RagSplit::kSentences,
                                                .order = RagOrder::kScore,
                                                .retriever = RagRetriever::kEmbeddings,
                                                .history_tokens = 5000}));
}

TEST(ConvertTest, CreateSessionRefusesOutlandishValues) {
  using Change = void (*)(v1::CreateSessionRequest&);
  const std::vector<std::pair<std::string, Change>> cases = {
      {"session_id", [](auto& r) { r.set_session_id("no spaces"); }},
      {"request_id.size", [](auto& r) { r.set_request_id(std::string(129, 'r')); }},
      {"labels.size",
       [](auto& r) {
         for (int i = 0; i < 17; ++i) (*r.mutable_labels())[std::to_string(i)] = "";
       }},
      {"labels.key.size", [](auto& r) { (*r.mutable_labels())[""] = ""; }},
      {"labels.key.size", [](auto& r) { (*r.mutable_labels())[std::string(65, 'k')] = ""; }},
      {"labels.value.size", [](auto& r) { (*r.mutable_labels())["k"] = std::string(257, 'v'); }},
      {"options.strategy",
       [](auto& r) { r.mutable_options()->set_strategy(static_cast<v1::Strategy>(99)); }},
      {"options.ttl.seconds", [](auto& r) { r.mutable_options()->mutable_ttl()->set_seconds(-1); }},
      {"options.ttl.seconds",
       [](auto& r) { r.mutable_options()->mutable_ttl()->set_seconds(INT64_MAX); }},
      {"options.ttl.nanos", [](auto& r) { r.mutable_options()->mutable_ttl()->set_nanos(-1); }},
      {"options.retrieval_budget_tokens",
       [](auto& r) { r.mutable_options()->set_retrieval_budget_tokens(-1); }},
      {"options.retrieval_budget_gain",
       [](auto& r) { r.mutable_options()->set_retrieval_budget_gain(kNan); }},
      {"options.retrieval_score_floor",
       [](auto& r) { r.mutable_options()->set_retrieval_score_floor(kNan); }},
      {"options.half_life_tokens",
       [](auto& r) { r.mutable_options()->set_half_life_tokens(kInfinity); }},
      {"options.half_life_tokens", [](auto& r) { r.mutable_options()->set_half_life_tokens(-1); }},
      {"options.replacement_noise",
       [](auto& r) { r.mutable_options()->set_replacement_noise(1.5); }},
      {"options.rag.chunk_tokens",
       [](auto& r) { r.mutable_options()->mutable_rag()->set_chunk_tokens(-1); }},
      {"options.rag.chunks",
       [](auto& r) { r.mutable_options()->mutable_rag()->set_chunks(65537); }},
      {"options.rag.order",
       [](auto& r) {
         r.mutable_options()->mutable_rag()->set_order(static_cast<v1::RagOrder>(3));
       }},
      {"options.rag.history_tokens",
       [](auto& r) { r.mutable_options()->mutable_rag()->set_history_tokens(-1); }},
      {"options.attention_rag.chunk_tokens",
       [](auto& r) { r.mutable_options()->mutable_attention_rag()->set_chunk_tokens(65537); }},
      {"options.attention_rag.top_tokens",
       [](auto& r) { r.mutable_options()->mutable_attention_rag()->set_top_tokens(-1); }},
      {"options.attention_rag.history_tokens",
       [](auto& r) { r.mutable_options()->mutable_attention_rag()->set_history_tokens(-1); }},
      {"options.attention_rag.anchor_prompt.size",
       [](auto& r) {
         r.mutable_options()->mutable_attention_rag()->set_anchor_prompt(std::string(4097, 'a'));
       }},
      {"options.attention_rag.hint_prompt.size",
       [](auto& r) {
         r.mutable_options()->mutable_attention_rag()->set_hint_prompt(std::string(4097, 'h'));
       }},
      {"options.attention_rag.hint.size", [](auto& r) {
         r.mutable_options()->mutable_attention_rag()->set_hint(std::string(4097, 'h'));
       }}};
  for (const auto& [field, change] : cases) {
    v1::CreateSessionRequest request;
    change(request);
    EXPECT_EQ(Blamed(FromProto(request, "desk").status()), field);
  }
  EXPECT_EQ(Blamed(FromProto(v1::CreateSessionRequest(), "desk").status()), "OK");
  // What a request does not name is the model's to say.
  EXPECT_TRUE(std::isnan(FromProto(v1::CreateSessionRequest(), "desk")->options.score_floor));
}

TEST(ConvertTest, ForkSnapshotAndRestoreNameTheirTenant) {
  v1::ForkSessionRequest fork;
  EXPECT_EQ(Blamed(FromProto(fork, "desk").status()), "session_id.size");
  fork.set_session_id("wire");
  EXPECT_EQ(Blamed(FromProto(fork, "desk").status()), "OK");
  fork.set_new_session_id("no spaces");
  EXPECT_EQ(Blamed(FromProto(fork, "desk").status()), "new_session_id");
  fork.set_new_session_id("copy");
  (*fork.mutable_labels())["team"] = "wire";
  fork.set_request_id("r-1");
  const absl::StatusOr<ForkSessionRequest> forked = FromProto(fork, "desk");
  ASSERT_TRUE(forked.ok()) << forked.status();
  EXPECT_EQ(forked->session, ScopedName("desk", "wire"));
  EXPECT_EQ(forked->new_id, "copy");
  EXPECT_EQ(forked->labels.at("team"), "wire");
  EXPECT_EQ(forked->request_id, "r-1");

  v1::SnapshotSessionRequest snapshot;
  snapshot.set_session_id("wire");
  snapshot.set_snapshot_id("../etc");
  EXPECT_EQ(Blamed(FromProto(snapshot, "desk").status()), "snapshot_id");
  snapshot.set_snapshot_id("noon");
  EXPECT_EQ(FromProto(snapshot, "desk")->session, ScopedName("desk", "wire"));
  EXPECT_EQ(FromProto(snapshot, "desk")->snapshot_id, "noon");

  v1::RestoreSessionRequest restore;
  EXPECT_EQ(Blamed(FromProto(restore, "desk").status()), "snapshot_id.size");
  restore.set_snapshot_id("noon");
  restore.set_session_id("again");
  restore.set_request_id(std::string(129, 'r'));
  EXPECT_EQ(Blamed(FromProto(restore, "desk").status()), "request_id.size");
  restore.set_request_id("r-2");
  EXPECT_EQ(FromProto(restore, "desk")->snapshot, ScopedName("desk", "noon"));
  EXPECT_EQ(FromProto(restore, "desk")->session_id, "again");
}

TEST(ConvertTest, AppendTakesEachKindOfContent) {
  v1::AppendRequest request;
  request.set_session_id("s");
  EXPECT_EQ(Blamed(TakeAppend(request, SmallModel(), ContentLimits()).status()), "content");

  request.mutable_content()->set_text("");
  absl::StatusOr<AppendRequest> converted = TakeAppend(request, SmallModel(), ContentLimits());
  ASSERT_TRUE(converted.ok());
  EXPECT_EQ(std::get<std::string>(converted->content), "");
  EXPECT_EQ(converted->offset, -1);

  request.mutable_content()->mutable_token_ids()->add_ids(99);
  request.set_offset(0);
  converted = TakeAppend(request, SmallModel(), ContentLimits());
  ASSERT_TRUE(converted.ok());
  EXPECT_THAT(std::get<std::vector<int32_t>>(converted->content), ElementsAre(99));
  EXPECT_EQ(converted->offset, 0);

  request.mutable_content()->mutable_embeddings()->set_rows(1);
  request.mutable_content()->mutable_embeddings()->set_bfloat16("\x80\x3f\x00\xc0", 4);
  converted = TakeAppend(request, SmallModel(), ContentLimits());
  ASSERT_TRUE(converted.ok()) << converted.status();
  EXPECT_EQ(std::get<EmbeddingRows>(converted->content).rows, 1);
  EXPECT_THAT(std::get<EmbeddingRows>(converted->content).values, ElementsAre(1.0f, -2.0f));
  EXPECT_FALSE(converted->score);
}

TEST(ConvertTest, ScoresGoBothWays) {
  v1::AppendRequest request;
  request.set_session_id("s");
  request.mutable_content()->set_text("text");
  request.set_score(true);
  EXPECT_TRUE(TakeAppend(request, SmallModel(), ContentLimits())->score);
  const v1::AppendResponse response =
      ToProto(AppendResult{.appended_tokens = 3, .scored_tokens = 2, .logprob_sum = -1.5});
  EXPECT_EQ(response.appended_tokens(), 3);
  EXPECT_EQ(response.scored_tokens(), 2);
  EXPECT_EQ(response.logprob_sum(), -1.5);
}

TEST(ConvertTest, AppendRefusesBadContent) {
  v1::AppendRequest request;
  request.set_session_id("s");
  v1::Content& content = *request.mutable_content();
  content.mutable_token_ids()->add_ids(5);
  content.mutable_token_ids()->add_ids(100);
  EXPECT_EQ(Blamed(TakeAppend(request, SmallModel(), ContentLimits()).status()),
            "content.token_ids.ids[1]");
  content.mutable_token_ids()->set_ids(1, -1);
  EXPECT_EQ(Blamed(TakeAppend(request, SmallModel(), ContentLimits()).status()),
            "content.token_ids.ids[1]");
  content.mutable_embeddings()->set_rows(1000);
  EXPECT_EQ(Blamed(TakeAppend(request, SmallModel(), ContentLimits()).status()),
            "content.embeddings.bfloat16");
  content.mutable_embeddings()->set_rows(-1);
  EXPECT_EQ(Blamed(TakeAppend(request, SmallModel(), ContentLimits()).status()),
            "content.embeddings.rows");
  content.mutable_embeddings()->set_rows(1);
  content.mutable_embeddings()->set_bfloat16("\x80\x3f\xc0\x7f", 4);  // 1, NaN
  EXPECT_EQ(Blamed(TakeAppend(request, SmallModel(), ContentLimits()).status()),
            "content.embeddings.bfloat16");
  content.set_text("x");
  request.set_offset(-1);
  EXPECT_EQ(Blamed(TakeAppend(request, SmallModel(), ContentLimits()).status()), "offset");
}

TEST(ConvertTest, ContentHasLimits) {
  const ContentLimits limits{.max_text_bytes = 4, .max_tokens = 2};
  v1::AppendRequest request;
  request.set_session_id("s");
  v1::Content& content = *request.mutable_content();
  content.set_text("four");
  EXPECT_EQ(Blamed(TakeAppend(request, SmallModel(), limits).status()), "OK");
  content.set_text("fives");
  EXPECT_EQ(Blamed(TakeAppend(request, SmallModel(), limits).status()), "content.text.size");
  for (int i = 0; i < 3; ++i) content.mutable_token_ids()->add_ids(1);
  EXPECT_EQ(Blamed(TakeAppend(request, SmallModel(), limits).status()),
            "content.token_ids.ids.size");
  content.mutable_embeddings()->set_rows(3);
  EXPECT_EQ(Blamed(TakeAppend(request, SmallModel(), limits).status()), "content.embeddings.rows");
  v1::GenerateRequest generate;
  generate.set_session_id("s");
  generate.mutable_prompt()->set_text("fives");
  EXPECT_EQ(Blamed(TakeGenerate(generate, SmallModel(), limits).status()), "prompt.text.size");
}

TEST(ConvertTest, Generate) {
  v1::GenerateRequest request;
  request.set_session_id("s");
  request.mutable_prompt()->set_text("who?");
  request.mutable_sampling()->set_temperature(0.5);
  request.mutable_sampling()->set_seed(0);
  request.mutable_stop()->add_stop_strings("\n");
  request.mutable_stop()->add_stop_token_ids(3);
  request.mutable_stop()->set_max_new_tokens(8);
  request.set_commit_output(v1::COMMIT_OUTPUT_COMMIT);
  request.set_logprobs(2);
  request.set_evidence(4);
  const absl::StatusOr<GenerateRequest> converted =
      TakeGenerate(request, SmallModel(), ContentLimits());
  ASSERT_TRUE(converted.ok()) << converted.status();
  EXPECT_EQ(std::get<std::string>(converted->prompt), "who?");
  EXPECT_EQ(converted->sampling.temperature, 0.5);
  EXPECT_TRUE(converted->sampling.has_seed);
  EXPECT_THAT(converted->stop.stop_strings, ElementsAre("\n"));
  EXPECT_THAT(converted->stop.stop_token_ids, ElementsAre(3));
  EXPECT_EQ(converted->stop.max_new_tokens, 8);
  EXPECT_TRUE(converted->commit);
  EXPECT_EQ(converted->logprobs, 2);
  EXPECT_EQ(converted->evidence, 4);
}

TEST(ConvertTest, GenerateRefusesOutlandishValues) {
  using Change = void (*)(v1::GenerateRequest&);
  const std::vector<std::pair<std::string, Change>> cases = {
      {"sampling.temperature", [](auto& r) { r.mutable_sampling()->set_temperature(kNan); }},
      {"sampling.temperature", [](auto& r) { r.mutable_sampling()->set_temperature(-0.1); }},
      {"sampling.temperature", [](auto& r) { r.mutable_sampling()->set_temperature(1e9); }},
      {"sampling.top_k", [](auto& r) { r.mutable_sampling()->set_top_k(-1); }},
      {"sampling.top_p", [](auto& r) { r.mutable_sampling()->set_top_p(1.01); }},
      {"sampling.min_p", [](auto& r) { r.mutable_sampling()->set_min_p(-kInfinity); }},
      {"sampling.repetition_penalty",
       [](auto& r) { r.mutable_sampling()->set_repetition_penalty(-1); }},
      {"sampling.presence_penalty",
       [](auto& r) { r.mutable_sampling()->set_presence_penalty(1e3); }},
      {"sampling.frequency_penalty",
       [](auto& r) { r.mutable_sampling()->set_frequency_penalty(kNan); }},
      {"stop.max_new_tokens", [](auto& r) { r.mutable_stop()->set_max_new_tokens(-1); }},
      {"stop.min_new_tokens", [](auto& r) { r.mutable_stop()->set_min_new_tokens(-1); }},
      {"stop.stop_strings[0].size", [](auto& r) { r.mutable_stop()->add_stop_strings(""); }},
      {"stop.stop_strings.size",
       [](auto& r) {
         for (int i = 0; i < 17; ++i) r.mutable_stop()->add_stop_strings("x");
       }},
      {"stop.stop_token_ids[0]", [](auto& r) { r.mutable_stop()->add_stop_token_ids(100); }},
      {"commit_output", [](auto& r) { r.set_commit_output(static_cast<v1::CommitOutput>(9)); }},
      {"logprobs", [](auto& r) { r.set_logprobs(-1); }},
      {"evidence", [](auto& r) { r.set_evidence(1001); }},
      {"prompt.token_ids.ids[0]",
       [](auto& r) { r.mutable_prompt()->mutable_token_ids()->add_ids(-5); }}};
  for (const auto& [field, change] : cases) {
    v1::GenerateRequest request;
    request.set_session_id("s");
    change(request);
    EXPECT_EQ(Blamed(TakeGenerate(request, SmallModel(), ContentLimits()).status()), field);
  }
}

TEST(ConvertTest, StrategiesThereAndBack) {
  for (const auto& [strategy, name] : {std::pair(Strategy::kRasq, v1::STRATEGY_RASQ),
                                       std::pair(Strategy::kFull, v1::STRATEGY_FULL),
                                       std::pair(Strategy::kWindow, v1::STRATEGY_WINDOW),
                                       std::pair(Strategy::kGca, v1::STRATEGY_GCA),
                                       std::pair(Strategy::kRazor, v1::STRATEGY_RAZOR),
                                       std::pair(Strategy::kPyramid, v1::STRATEGY_PYRAMID)}) {
    v1::CreateSessionRequest request;
    request.mutable_options()->set_strategy(name);
    const auto converted = FromProto(request, "");
    ASSERT_TRUE(converted.ok()) << converted.status();
    EXPECT_EQ(converted->options.strategy, strategy);
    SessionInfo session;
    session.options.strategy = strategy;
    EXPECT_EQ(ToProto(session).options().strategy(), name);
  }
}

TEST(ConvertTest, SessionToProto) {
  SessionInfo session;
  session.id = "s";
  session.create_time = absl::FromUnixMillis(1'500);
  session.last_use_time = absl::FromUnixMillis(-1'500);
  session.expire_time = absl::InfiniteFuture();
  session.labels["k"] = "v";
  session.options.strategy = Strategy::kRasq;
  session.options.ttl = absl::Milliseconds(2'500);
  session.state = SessionState::kDeleting;
  session.context_tokens = 1;
  session.backlog_tokens = 2;
  session.next_offset = 3;
  session.state_bytes = 4;
  const v1::Session proto = ToProto(session);
  EXPECT_EQ(proto.create_time().seconds(), 1);
  EXPECT_EQ(proto.create_time().nanos(), 500'000'000);
  EXPECT_EQ(proto.last_use_time().seconds(), -2);  // nanos count forward, by protobuf's rule
  EXPECT_EQ(proto.last_use_time().nanos(), 500'000'000);
  EXPECT_FALSE(proto.has_expire_time());
  EXPECT_EQ(proto.labels().at("k"), "v");
  EXPECT_EQ(proto.options().strategy(), v1::STRATEGY_RASQ);
  EXPECT_EQ(proto.options().ttl().seconds(), 2);
  EXPECT_EQ(proto.options().ttl().nanos(), 500'000'000);
  EXPECT_EQ(proto.state(), v1::SESSION_STATE_DELETING);
  EXPECT_EQ(proto.context_tokens(), 1);
  EXPECT_EQ(proto.backlog_tokens(), 2);
  EXPECT_EQ(proto.next_offset(), 3);
  EXPECT_EQ(proto.state_bytes(), 4);
  EXPECT_FALSE(proto.options().has_ablation());
  EXPECT_FALSE(proto.options().has_rag());
}

// What a session's options say in both directions.
TEST(ConvertTest, AblationAndRagComeBack) {
  SessionInfo session;
  session.options.ablation = {.no_dsr = true, .no_rckv = true};
  v1::CreateSessionRequest request;
  *request.mutable_options() = ToProto(session).options();
  const auto ablated = FromProto(request, "desk");
  ASSERT_TRUE(ablated.ok()) << ablated.status();
  EXPECT_TRUE(ablated->options.ablation.no_dsr);
  EXPECT_FALSE(ablated->options.ablation.no_sqa);
  EXPECT_TRUE(ablated->options.ablation.no_rckv);
  for (const RagOptions& rag :
       {RagOptions{.chunk_tokens = 5, .chunks = 6}, RagOptions{.chunk_tokens = 7,
                                                    .chunks = 8,
                                                    .split = RagSplit::kSentences,
                                                    .order = RagOrder::kScore,
                                                    .retriever = RagRetriever::kEmbeddings,
                                                    .history_tokens = 9}}) {
    session.options = {.strategy = Strategy::kRag};
    session.options.rag = rag;
    *request.mutable_options() = ToProto(session).options();
    const auto converted = FromProto(request, "desk");
    ASSERT_TRUE(converted.ok()) << converted.status();
    EXPECT_EQ(converted->options.strategy, Strategy::kRag);
    EXPECT_EQ(converted->options.rag, rag);
  }
}

TEST(ConvertTest, AttentionRagComesBack) {
  SessionInfo session;
  EXPECT_FALSE(ToProto(session).options().has_attention_rag());
  session.options.strategy = Strategy::kAttentionRag;
  session.options.attention_rag = {.chunk_tokens = 9,
                                   .top_tokens = 8,
                                   .history_tokens = 70,
                                   .anchor_prompt = "a",
                                   .hint_prompt = "b",
                                   .hint = "c"};
  v1::CreateSessionRequest request;
  *request.mutable_options() = ToProto(session).options();
  EXPECT_FALSE(request.options().has_rag());
  EXPECT_EQ(request.options().attention_rag().hint_prompt(), "b");
  const auto converted = FromProto(request, "desk");
  ASSERT_TRUE(converted.ok()) << converted.status();
  EXPECT_EQ(converted->options.strategy, Strategy::kAttentionRag);
  EXPECT_EQ(converted->options.attention_rag, session.options.attention_rag);
}

TEST(ConvertTest, ChunksMerge) {
  GenerateChunk chunk;
  chunk.text = "ab";
  chunk.tokens.push_back(
      {.token_id = 7, .logprob = -1.5, .alternatives = {{.token_id = 8, .logprob = -2}}});
  v1::GenerateResponse message;
  MergeChunk(chunk, message);
  chunk.text = "c";
  MergeChunk(chunk, message);
  EXPECT_EQ(message.text(), "abc");
  ASSERT_EQ(message.tokens_size(), 2);
  EXPECT_EQ(message.tokens(1).token_id(), 7);
  EXPECT_EQ(message.tokens(1).logprob(), -1.5);
  EXPECT_EQ(message.tokens(1).alternatives(0).token_id(), 8);
  EXPECT_FALSE(message.has_summary());
}

TEST(ConvertTest, SummaryToProto) {
  GenerateSummary summary;
  summary.finish_reason = FinishReason::kLength;
  summary.context_tokens = 1000;
  summary.prompt_tokens = 3;
  summary.output_tokens = 4;
  summary.retrieved_tokens = 12.5;
  summary.evidence.push_back({.position = 17, .text = "Paris", .score = 0.25});
  summary.total_time = absl::Milliseconds(1'250);
  const v1::GenerateSummary proto = ToProto(summary);
  EXPECT_EQ(proto.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(proto.context_tokens(), 1000);
  EXPECT_EQ(proto.retrieved_tokens(), 12.5);
  EXPECT_EQ(proto.evidence(0).position(), 17);
  EXPECT_EQ(proto.evidence(0).text(), "Paris");
  EXPECT_EQ(proto.total_time().nanos(), 250'000'000);
}

}  // namespace
}  // namespace rasq
