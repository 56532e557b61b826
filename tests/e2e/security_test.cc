// Tokens, scopes and tenants; what the log and errors say of a call, and what they do not.
#include <sys/stat.h>

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "tests/support/files.h"
#include "tests/support/server_fixture.h"

namespace rasq {
namespace {

using grpc::StatusCode;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kNews[] = "news-secret-0123456789";
constexpr char kShop[] = "shop-secret-0123456789";
constexpr char kOps[] = "ops-secret-0123456789";
constexpr char kOld[] = "old-secret-0123456789";
constexpr char kNew[] = "new-secret-0123456789";

std::string Token(const std::string& token, const std::string& tenant, const std::string& scope,
                  const std::string& more = "") {
  return absl::StrCat(R"({"token": ")", token, R"(", "tenant": ")", tenant, R"(", "scopes": [")",
                      scope, R"("])", more, "}");
}

google::rpc::ErrorInfo InfoOf(const grpc::Status& status) {
  google::rpc::Status rich;
  google::rpc::ErrorInfo info;
  rich.ParseFromString(status.error_details());
  for (const auto& detail : rich.details()) detail.UnpackTo(&info);
  return info;
}

class SecurityTest : public ServerTest {
 protected:
  SecurityTest() {
    options_ = TestServerOptions();
    options_.auth_file = TemporaryPath("security_test_auth.json");
    options_.log_stream = std::tmpfile();
    WriteTokens({Token(kNews, "news", "inference"), Token(kShop, "shop", "inference"),
                 Token(kOps, "ops", "admin"),
                 Token(kOld, "news", "inference", R"(, "expires": "2020-01-01T00:00:00Z")")});
  }
  ~SecurityTest() override { std::fclose(options_.log_stream); }

  void WriteTokens(const std::vector<std::string>& tokens) {
    std::string list;
    for (const std::string& token : tokens) {
      absl::StrAppend(&list, list.empty() ? "" : ",\n", token);
    }
    WriteFile(options_.auth_file, absl::StrCat(R"({"tokens": [)", list, "]}"));
    chmod(options_.auth_file.c_str(), 0600);
  }

  // Ends the server, so that each line is there.
  std::string TakeLog() {
    TearDown();
    std::rewind(options_.log_stream);
    std::string text;
    char bytes[4096];
    while (const size_t n = std::fread(bytes, 1, sizeof(bytes), options_.log_stream)) {
      text.append(bytes, n);
    }
    return text;
  }

  // The codes of every call that names session "s", in the order of the proto's file.
  std::vector<StatusCode> CallsOfS() {
    std::vector<StatusCode> codes = {Get("s").error_code(), Delete("s").error_code(),
                                     Append("s", "Some text. ").error_code()};
    {
      grpc::ClientContext context;
      const auto stream = sessions().StreamAppend(&Prepare(context));
      v1::StreamAppendRequest request;
      request.set_session_id("s");
      stream->Write(request);
      stream->WritesDone();
      v1::StreamAppendResponse ack;
      while (stream->Read(&ack)) {
      }
      codes.push_back(stream->Finish().error_code());
    }
    v1::GenerateRequest generate = EndlessGeneration("s");
    generate.mutable_stop()->set_max_new_tokens(2);
    codes.push_back(Generate(generate).error_code());
    return codes;
  }

  // And of those that name none.
  std::vector<StatusCode> OtherCalls() {
    std::vector<StatusCode> codes = {Create("").error_code()};
    const auto call = [&](auto stub, auto method, auto request, auto response) {
      grpc::ClientContext context;
      codes.push_back(((*stub).*method)(&Prepare(context), request, &response).error_code());
    };
    call(&sessions(), &v1::SessionService::Stub::ListSessions, v1::ListSessionsRequest(),
         v1::ListSessionsResponse());
    call(&models(), &v1::ModelService::Stub::Tokenize, v1::TokenizeRequest(),
         v1::TokenizeResponse());
    call(&models(), &v1::ModelService::Stub::Detokenize, v1::DetokenizeRequest(),
         v1::DetokenizeResponse());
    return codes;
  }
  std::vector<StatusCode> AnyScope() {
    grpc::ClientContext one, two;
    v1::GetModelResponse model;
    v1::GetServerInfoResponse info;
    return {models().GetModel(&Prepare(one), v1::GetModelRequest(), &model).error_code(),
            models().GetServerInfo(&Prepare(two), v1::GetServerInfoRequest(), &info).error_code()};
  }
  grpc::Status Reload() {
    grpc::ClientContext context;
    v1::ReloadResponse response;
    return admin().Reload(&Prepare(context), v1::ReloadRequest(), &response);
  }

  ServerOptions options_;
};

TEST_F(SecurityTest, StrangersAreRefusedEverything) {
  StartServer(options_);
  for (const std::string& token : {std::string(), std::string("wrong-secret-0123456789"),
                                   std::string(kOld), absl::StrCat(kNews, "x")}) {
    set_token(token);
    EXPECT_THAT(CallsOfS(), ::testing::Each(StatusCode::UNAUTHENTICATED)) << token;
    EXPECT_THAT(OtherCalls(), ::testing::Each(StatusCode::UNAUTHENTICATED)) << token;
    EXPECT_THAT(AnyScope(), ::testing::Each(StatusCode::UNAUTHENTICATED)) << token;
    EXPECT_EQ(Reload().error_code(), StatusCode::UNAUTHENTICATED) << token;
  }
  const grpc::Status status = Get("s");
  EXPECT_EQ(InfoOf(status).reason(), "UNAUTHENTICATED");
  EXPECT_EQ(InfoOf(status).domain(), "rasq");
}

TEST_F(SecurityTest, ScopesAreApart) {
  StartServer(options_);
  set_token(kOps);
  EXPECT_THAT(CallsOfS(), ::testing::Each(StatusCode::PERMISSION_DENIED));
  EXPECT_THAT(OtherCalls(), ::testing::Each(StatusCode::PERMISSION_DENIED));
  EXPECT_THAT(AnyScope(), ::testing::Each(StatusCode::OK));
  EXPECT_TRUE(Reload().ok());
  set_token(kNews);
  EXPECT_THAT(OtherCalls(), ::testing::Each(StatusCode::OK));
  EXPECT_THAT(AnyScope(), ::testing::Each(StatusCode::OK));
  EXPECT_EQ(Reload().error_code(), StatusCode::PERMISSION_DENIED);
  grpc::ClientContext context;
  v1::DrainResponse response;
  EXPECT_EQ(admin().Drain(&Prepare(context), v1::DrainRequest(), &response).error_code(),
            StatusCode::PERMISSION_DENIED);
  EXPECT_FALSE(server().draining());
}

TEST_F(SecurityTest, TenantsDoNotSeeEachOther) {
  StartServer(options_);
  set_token(kNews);
  ASSERT_TRUE(Create("s").ok());
  ASSERT_TRUE(Append("s", "What only the news knows. ").ok());
  set_token(kShop);
  EXPECT_THAT(CallsOfS(), ::testing::Each(StatusCode::NOT_FOUND));
  grpc::ClientContext context;
  v1::ListSessionsResponse list;
  ASSERT_TRUE(sessions().ListSessions(&Prepare(context), v1::ListSessionsRequest(), &list).ok());
  EXPECT_EQ(list.sessions_size(), 0);
  // The same name is another session.
  v1::Session session;
  ASSERT_TRUE(Create("s").ok());
  ASSERT_TRUE(Get("s", &session).ok());
  EXPECT_EQ(session.next_offset(), 0);
  ASSERT_TRUE(Delete("s").ok());
  set_token(kNews);
  ASSERT_TRUE(Get("s", &session).ok());
  EXPECT_EQ(session.next_offset(), 26);
}

TEST_F(SecurityTest, ReloadChangesTokensAndABadFileChangesNothing) {
  StartServer(options_);
  set_token(kNews);
  EXPECT_TRUE(Create("s").ok());
  WriteFile(options_.auth_file, R"({"tokens": [{"token": ")" + std::string(kNew) + R"("}]})");
  set_token(kOps);
  const grpc::Status bad = Reload();
  EXPECT_EQ(bad.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(bad.error_message(), HasSubstr("tokens[0].tenant"));
  EXPECT_THAT(bad.error_message(), Not(HasSubstr("security_test_auth")));
  set_token(kNews);
  EXPECT_TRUE(Get("s").ok());

  WriteTokens({Token(kNew, "news", "inference"), Token(kOps, "ops", "admin")});
  EXPECT_TRUE(server().Reload().ok());  // as SIGHUP does
  EXPECT_EQ(Get("s").error_code(), StatusCode::UNAUTHENTICATED);
  set_token(kNew);
  EXPECT_TRUE(Get("s").ok()) << "the tenant keeps its sessions";
  const std::string log = TakeLog();
  EXPECT_THAT(log, HasSubstr("reload: all stays as it was: tokens[0].tenant: must be"));
  EXPECT_THAT(log, HasSubstr("reload: done"));
}

TEST_F(SecurityTest, TokensTakenAwayEndTheirStreams) {
  StartServer(options_);
  set_token(kNews);
  ASSERT_TRUE(Create("s").ok());
  grpc::ClientContext context;
  const auto stream = sessions().StreamAppend(&Prepare(context));
  v1::StreamAppendRequest request;
  request.set_session_id("s");
  request.mutable_content()->set_text("Allowed. ");
  ASSERT_TRUE(stream->Write(request));
  v1::StreamAppendResponse ack;
  while (ack.next_offset() < 9) ASSERT_TRUE(stream->Read(&ack));
  EXPECT_EQ(context.GetServerInitialMetadata().count("x-request-id"), 1u);

  WriteTokens({Token(kNew, "news", "inference")});
  ASSERT_TRUE(server().Reload().ok());
  request.mutable_content()->set_text("Too late. ");
  stream->Write(request);
  while (stream->Read(&ack)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::UNAUTHENTICATED);
  set_token(kNew);
  v1::Session session;
  ASSERT_TRUE(Get("s", &session).ok());
  EXPECT_EQ(session.next_offset(), 9);
}

TEST_F(SecurityTest, TheLogHasTheCallAndNoSecret) {
  options_.log_format = LogFormat::kJson;
  StartServer(options_);
  set_token(kNews);
  ASSERT_TRUE(Create("s").ok());
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "job-7");
  context.AddMetadata("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  v1::AppendRequest append;
  append.set_session_id("s");
  append.mutable_content()->set_text("Private words. ");
  v1::AppendResponse appended;
  ASSERT_TRUE(sessions().Append(&Prepare(context), append, &appended).ok());
  EXPECT_EQ(context.GetServerInitialMetadata().find("x-request-id")->second, "job-7");
  v1::GenerateRequest generate = EndlessGeneration("s");
  generate.mutable_stop()->set_max_new_tokens(3);
  ASSERT_TRUE(Generate(generate).ok());
  set_token("wrong-secret-0123456789");
  EXPECT_FALSE(Get("s").ok());
  set_token(kOps);
  EXPECT_FALSE(Get("s").ok());

  const std::string log = TakeLog();
  EXPECT_THAT(log, HasSubstr(absl::StrCat(
                       R"("method":"Append","request":"job-7","tenant":"news","session":"s",)",
                       R"("code":"OK","seconds":)")));
  EXPECT_THAT(log, HasSubstr(absl::StrCat(R"("tokens_in":)", appended.appended_tokens(),
                                          R"(,"trace":"4bf92f3577b34da6a3ce929d0e0e4736",)",
                                          R"("parent":"00f067aa0ba902b7")")));
  EXPECT_THAT(log, ContainsRegex(R"("method":"Generate".*"tokens_in":[0-9]+,"tokens_out":3)"));
  EXPECT_THAT(log, HasSubstr("UNAUTHENTICATED"));
  EXPECT_THAT(log, HasSubstr("PERMISSION_DENIED"));
  EXPECT_THAT(log, Not(HasSubstr("secret")));
  EXPECT_THAT(log, Not(HasSubstr("Private")));
}

TEST_F(SecurityTest, ErrorsCarryTheRequestId) {
  StartServer(options_);
  set_token(kNews);
  grpc::ClientContext own, none;
  own.AddMetadata("x-request-id", "job-8");
  v1::GetSessionRequest request;
  request.set_session_id("nobody");
  v1::GetSessionResponse response;
  const grpc::Status status = sessions().GetSession(&Prepare(own), request, &response);
  EXPECT_EQ(InfoOf(status).metadata().at("request_id"), "job-8");
  const grpc::Status made = sessions().GetSession(&Prepare(none), request, &response);
  const std::string id = InfoOf(made).metadata().at("request_id");
  EXPECT_THAT(id, ContainsRegex("^[0-9a-f]{32}$"));
  EXPECT_EQ(none.GetServerInitialMetadata().find("x-request-id")->second, id);
  EXPECT_THAT(TakeLog(), HasSubstr("request=" + id + " tenant=news session=nobody code=NOT_FOUND"));
}

TEST_F(SecurityTest, FilesThatOthersMayReadAreWarnedOf) {
  chmod(options_.auth_file.c_str(), 0644);
  StartServer(options_);
  EXPECT_THAT(TakeLog(), HasSubstr("warning: auth-file: every user of this machine may read it"));
}

TEST_F(SecurityTest, ABadFileIsSaidAtTheStart) {
  WriteFile(options_.auth_file, "[]");
  const absl::Status status = Server::Start(options_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "auth_file")) << status;
}

}  // namespace
}  // namespace rasq
