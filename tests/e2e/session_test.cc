// The life of sessions over real gRPC: names, limits, capacity, deletion.
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "tests/support/server_fixture.h"

namespace rasq {
namespace {

using grpc::StatusCode;

// Whether the status has a detail of type T; fills it.
template <typename T>
bool HasDetail(const grpc::Status& status, T& detail) {
  google::rpc::Status rich;
  if (!rich.ParseFromString(status.error_details())) return false;
  for (const auto& any : rich.details()) {
    if (any.UnpackTo(&detail)) return true;
  }
  return false;
}

class SessionTest : public ServerTest {};

TEST_F(SessionTest, CreateGetDelete) {
  StartServer();
  v1::Session created, found;
  ASSERT_TRUE(Create("news", &created).ok());
  EXPECT_EQ(created.session_id(), "news");
  EXPECT_EQ(created.state(), v1::SESSION_STATE_ACTIVE);
  EXPECT_GT(created.state_bytes(), 0);
  EXPECT_NE(created.options().strategy(), v1::STRATEGY_UNSPECIFIED);
  ASSERT_TRUE(Get("news", &found).ok());
  EXPECT_EQ(found.create_time().seconds(), created.create_time().seconds());
  EXPECT_TRUE(Delete("news").ok());
  EXPECT_EQ(Get("news").error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(Delete("news").error_code(), StatusCode::NOT_FOUND);
}

TEST_F(SessionTest, ServerChoosesAnId) {
  StartServer();
  v1::Session first, second;
  ASSERT_TRUE(Create("", &first).ok());
  ASSERT_TRUE(Create("", &second).ok());
  EXPECT_FALSE(first.session_id().empty());
  EXPECT_NE(first.session_id(), second.session_id());
}

TEST_F(SessionTest, DuplicateIdAndRepeatedRequest) {
  StartServer();
  v1::CreateSessionRequest request;
  request.set_session_id("twice");
  request.set_request_id("5d1c");
  v1::CreateSessionResponse first, second;
  grpc::ClientContext one, two;
  ASSERT_TRUE(sessions().CreateSession(&WithDeadline(one), request, &first).ok());
  ASSERT_TRUE(sessions().CreateSession(&WithDeadline(two), request, &second).ok());
  EXPECT_EQ(first.session().create_time().nanos(), second.session().create_time().nanos());
  const grpc::Status taken = Create("twice");
  EXPECT_EQ(taken.error_code(), StatusCode::ALREADY_EXISTS);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(HasDetail(taken, info));
  EXPECT_EQ(info.reason(), "SESSION_EXISTS");
  EXPECT_EQ(info.domain(), "rasq");
}

TEST_F(SessionTest, FullServerSaysWhenToTryAgain) {
  const ServerOptions options = TestServerOptions();
  StartServer(options);
  for (int i = 0; i < options.engine.max_sessions; ++i) {
    ASSERT_TRUE(Create("s" + std::to_string(i)).ok());
  }
  const grpc::Status full = Create("one-more");
  EXPECT_EQ(full.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(HasDetail(full, retry));
  EXPECT_GT(retry.retry_delay().seconds(), 0);
  ASSERT_TRUE(Delete("s0").ok());
  EXPECT_TRUE(Create("one-more").ok());
}

TEST_F(SessionTest, BadFieldsAreNamed) {
  StartServer();
  google::rpc::BadRequest bad;
  const grpc::Status status = Create("no spaces, please");
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  ASSERT_TRUE(HasDetail(status, bad));
  EXPECT_EQ(bad.field_violations(0).field(), "session_id");

  v1::CreateSessionRequest request;
  request.mutable_options()->set_replacement_noise(-1);
  v1::CreateSessionResponse response;
  grpc::ClientContext context;
  const grpc::Status noise = sessions().CreateSession(&WithDeadline(context), request, &response);
  EXPECT_EQ(noise.error_code(), StatusCode::INVALID_ARGUMENT);
  ASSERT_TRUE(HasDetail(noise, bad));
  EXPECT_EQ(bad.field_violations(0).field(), "options.replacement_noise");
}

TEST_F(SessionTest, StrategiesAreChosenPerSession) {
  StartServer();
  v1::CreateSessionRequest request;
  v1::CreateSessionResponse response;
  const auto create = [&](const std::string& id) {
    grpc::ClientContext context;
    request.set_session_id(id);
    return sessions().CreateSession(&WithDeadline(context), request, &response);
  };
  request.mutable_options()->mutable_ablation()->set_no_dsr(true);
  ASSERT_TRUE(create("ablated").ok());
  EXPECT_TRUE(response.session().options().ablation().no_dsr());
  request.mutable_options()->set_strategy(v1::STRATEGY_RAG);
  google::rpc::BadRequest bad;
  ASSERT_TRUE(HasDetail(create("both"), bad));
  EXPECT_EQ(bad.field_violations(0).field(), "options.ablation");
  request.mutable_options()->clear_ablation();
  request.mutable_options()->mutable_rag()->set_chunk_tokens(32);
  request.mutable_options()->mutable_rag()->set_chunks(2);
  ASSERT_TRUE(create("rag").ok());
  EXPECT_EQ(response.session().options().strategy(), v1::STRATEGY_RAG);
  EXPECT_EQ(response.session().options().rag().order(), v1::RAG_ORDER_CHRONOLOGICAL);

  std::string text;
  for (int i = 0; i < 200; ++i) text += "Line " + std::to_string(i) + " of many. ";
  for (const char* id : {"ablated", "rag"}) {
    ASSERT_TRUE(Append(id, text).ok());
    v1::GenerateRequest generate = EndlessGeneration(id);
    generate.mutable_stop()->set_max_new_tokens(4);
    v1::GenerateSummary summary;
    ASSERT_TRUE(Generate(generate, nullptr, &summary).ok());
    EXPECT_EQ(summary.output_tokens(), 4);
    if (id == std::string("rag")) {
      EXPECT_GT(summary.retrieved_tokens(), 32);
      EXPECT_LE(summary.retrieved_tokens(), 64);
    }
  }
  v1::Session session;
  ASSERT_TRUE(Get("rag", &session).ok());
  EXPECT_GT(session.state_bytes(), 4 * session.context_tokens());
}

TEST_F(SessionTest, AttentionRagReadsSentences) {
  ServerOptions options = TestServerOptions();
  options.engine.strategies.push_back(Strategy::kAttentionRag);
  StartServer(options);
  v1::CreateSessionRequest request;
  v1::CreateSessionResponse response;
  const auto create = [&](const std::string& id) {
    grpc::ClientContext context;
    request.set_session_id(id);
    return sessions().CreateSession(&WithDeadline(context), request, &response);
  };
  request.mutable_options()->set_strategy(v1::STRATEGY_ATTENTION_RAG);
  v1::AttentionRagOptions& rag = *request.mutable_options()->mutable_attention_rag();
  rag.set_anchor_prompt("{question}");
  google::rpc::BadRequest bad;
  ASSERT_TRUE(HasDetail(create("bad"), bad));
  EXPECT_EQ(bad.field_violations(0).field(), "options.attention_rag.anchor_prompt");
  rag.set_anchor_prompt("{chunk}{question}");
  rag.set_chunk_tokens(64);
  rag.set_top_tokens(1);
  ASSERT_TRUE(create("lines").ok());
  EXPECT_EQ(response.session().options().strategy(), v1::STRATEGY_ATTENTION_RAG);
  EXPECT_EQ(response.session().options().attention_rag().anchor_prompt(), "{chunk}{question}");

  std::string text;
  for (int i = 0; i < 40; ++i) text += "Line " + std::to_string(i) + " of many.\n";
  ASSERT_TRUE(Append("lines", text).ok());
  v1::GenerateRequest generate = EndlessGeneration("lines");
  generate.mutable_stop()->set_max_new_tokens(4);
  generate.set_evidence(1000);
  v1::GenerateSummary summary;
  ASSERT_TRUE(Generate(generate, nullptr, &summary).ok());
  EXPECT_EQ(summary.output_tokens(), 4);
  EXPECT_GT(summary.retrieved_tokens(), 0);
  EXPECT_LT(summary.retrieved_tokens(), summary.context_tokens());
  EXPECT_GT(summary.evidence_size(), 0);
}

TEST_F(SessionTest, PagesListEverySessionOnce) {
  StartServer();
  for (const char* id : {"a", "b", "c", "d", "e"}) ASSERT_TRUE(Create(id).ok());
  std::string seen;
  v1::ListSessionsRequest request;
  request.set_page_size(2);
  do {
    grpc::ClientContext context;
    v1::ListSessionsResponse response;
    ASSERT_TRUE(sessions().ListSessions(&WithDeadline(context), request, &response).ok());
    EXPECT_LE(response.sessions_size(), 2);
    for (const v1::Session& session : response.sessions()) seen += session.session_id();
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(seen, "abcde");

  request.set_page_size(-1);
  grpc::ClientContext context;
  v1::ListSessionsResponse response;
  EXPECT_EQ(sessions().ListSessions(&WithDeadline(context), request, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(SessionTest, DeleteWaitsForWorkInFlight) {
  StartServer();
  ASSERT_TRUE(Create("busy").ok());
  v1::GenerateRequest request = EndlessGeneration("busy");
  request.mutable_stop()->set_max_new_tokens(16);
  RunningGeneration generation(sessions(), request);
  EXPECT_TRUE(Delete("busy").ok());
  // Whatever was running has ended by now, and well.
  EXPECT_TRUE(generation.Finish().ok());
  EXPECT_EQ(Get("busy").error_code(), StatusCode::NOT_FOUND);
}

TEST_F(SessionTest, SeveralDevicesAreOneServer) {
  ServerOptions options = TestServerOptions();
  options.engine.ops.device = "cpu,cpu";
  options.engine.max_sessions = 2;
  StartServer(options);
  for (const char* id : {"a", "b", "c", "d"}) {
    ASSERT_TRUE(Create(id).ok());
    ASSERT_TRUE(Append(id, "The miller waited by the empty quay. ").ok());
    v1::GenerateRequest request = EndlessGeneration(id);
    request.mutable_stop()->set_max_new_tokens(2);
    EXPECT_TRUE(Generate(request).ok());
  }
  EXPECT_EQ(Create("e").error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Create("b").error_code(), StatusCode::ALREADY_EXISTS);
  grpc::ClientContext context;
  v1::ListSessionsResponse list;
  ASSERT_TRUE(
      sessions().ListSessions(&WithDeadline(context), v1::ListSessionsRequest(), &list).ok());
  EXPECT_EQ(list.sessions_size(), 4);
  EXPECT_TRUE(Delete("d").ok());
  EXPECT_TRUE(Create("e").ok());
}

TEST_F(SessionTest, ModelAndTokenizer) {
  StartServer();
  v1::GetModelResponse model;
  grpc::ClientContext one, two, three, four;
  ASSERT_TRUE(models().GetModel(&WithDeadline(one), v1::GetModelRequest(), &model).ok());
  EXPECT_GT(model.vocab_size(), 0);
  EXPECT_EQ(model.session_slots(), TestServerOptions().engine.max_sessions);
  EXPECT_EQ(model.device(), "cpu");
  EXPECT_FALSE(model.server_version().empty());

  v1::TokenizeRequest text;
  text.set_text("A session never ends \u2013 na\u00efve?");
  v1::TokenizeResponse tokens;
  ASSERT_TRUE(models().Tokenize(&WithDeadline(two), text, &tokens).ok());
  v1::DetokenizeRequest ids;
  *ids.mutable_token_ids() = tokens.token_ids();
  v1::DetokenizeResponse back;
  ASSERT_TRUE(models().Detokenize(&WithDeadline(three), ids, &back).ok());
  EXPECT_EQ(back.text(), text.text());
  ids.add_token_ids(model.vocab_size());
  EXPECT_EQ(models().Detokenize(&WithDeadline(four), ids, &back).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace rasq
