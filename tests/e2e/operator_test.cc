// The programs as an operator runs them: TLS, tokens, reload and drain from the command line.
#include <sys/stat.h>

#include <csignal>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/certificates.h"
#include "tests/support/files.h"
#include "tests/support/process.h"
#include "tests/support/server_fixture.h"

namespace rasq {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kOps[] = "ops-secret-0123456789";
constexpr char kNews[] = "news-secret-0123456789";

class OperatorTest : public ::testing::Test {
 protected:
  OperatorTest() {
    WriteTokens(kNews);
    WriteFile(token_file_, std::string(kOps) + "\n");
  }

  void WriteTokens(const std::string& news) {
    WriteFile(auth_file_, absl::StrCat(R"({"tokens": [
                  {"token": ")",
                                       kOps, R"(", "tenant": "ops", "scopes": ["admin"]},
                  {"token": ")",
                                       news, R"(", "tenant": "news", "scopes": ["inference"]}]})"));
    chmod(auth_file_.c_str(), 0600);
  }

  std::vector<std::string> ServerCommand(const std::vector<std::string>& more) const {
    std::vector<std::string> command = {RASQ_SERVER_BINARY,
                                        "--listen=127.0.0.1:0",
                                        "--metrics-listen=",
                                        "--device=cpu",
                                        "--max-sessions=2",
                                        "--auth-file",
                                        auth_file_,
                                        "--model",
                                        TestServerOptions().engine.model};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }

  // Exit code of `rasq`, and what it said.
  struct Result {
    int code;
    std::string text;
  };
  static Result Rasq(const std::string& address, std::vector<std::string> arguments,
                     const std::vector<std::string>& environment = {}) {
    arguments.insert(arguments.begin(), {RASQ_CLI_BINARY, "--address", address});
    Process process(arguments, environment);
    process.CloseInput();
    const int code = process.Wait();
    return {code, process.out() + process.err()};
  }

  const std::string auth_file_ = TemporaryPath("operator_test_auth.json");
  const std::string token_file_ = TemporaryPath("operator_test_token");
};

TEST_F(OperatorTest, TlsTokensReloadAndDrain) {
  const CertificateFiles authority = MakeAuthority("authority");
  const CertificateFiles files = MakeCertificate("server", authority);
  Process server(ServerCommand({"--tls-cert", files.certificate, "--tls-key", files.key}));
  const std::string address = server.WaitFor("listening on ([0-9.]+:[0-9]+)");
  ASSERT_NE(address, "") << server.err();
  const std::vector<std::string> news = {absl::StrCat("RASQ_TOKEN=", kNews),
                                         "RASQ_TLS_CA=" + authority.certificate};
  const std::vector<std::string> ops = {"RASQ_TLS_CA=" + authority.certificate,
                                        "RASQ_TOKEN_FILE=" + token_file_};
  EXPECT_EQ(Rasq(address, {"sessions", "create", "s"}, news).code, 0);
  EXPECT_THAT(Rasq(address, {"sessions", "list"}, {news[1]}).text, HasSubstr("UNAUTHENTICATED"));
  EXPECT_EQ(Rasq(address, {"sessions", "list"}, {news[0]}).code, 1) << "no TLS";
  EXPECT_THAT(Rasq(address, {"admin", "drain"}, news).text, HasSubstr("PERMISSION_DENIED"));
  EXPECT_EQ(
      Rasq(address, {"--tls-ca", authority.certificate, "--token-file", token_file_, "info"}).code,
      0);

  EXPECT_NE(server.WaitFor("Z grpc: Handshake failed"), "") << "in the log's own format";

  WriteTokens("next-secret-0123456789");
  EXPECT_EQ(Rasq(address, {"admin", "reload"}, ops).code, 0);
  EXPECT_THAT(Rasq(address, {"sessions", "list"}, news).text, HasSubstr("UNAUTHENTICATED"));
  WriteTokens("short");
  const Result bad = Rasq(address, {"admin", "reload"}, ops);
  EXPECT_EQ(bad.code, 1);
  EXPECT_THAT(bad.text, HasSubstr("INVALID_ARGUMENT: tokens[1].token: must be"));

  EXPECT_EQ(Rasq(address, {"admin", "drain", "--grace=5s"}, ops).code, 0);
  EXPECT_EQ(server.Wait(), 0);
  EXPECT_THAT(server.err(), HasSubstr("stopping"));
  EXPECT_THAT(server.err(), Not(HasSubstr("secret")));
}

TEST_F(OperatorTest, HangUpReloads) {
  Process server(ServerCommand({}));
  const std::string address = server.WaitFor("listening on ([0-9.]+:[0-9]+)");
  ASSERT_NE(address, "") << server.err();
  WriteFile(auth_file_, "{}");
  server.Signal(SIGHUP);
  EXPECT_NE(server.WaitFor("reload: all stays as it was: tokens: must be a list"), "");
  EXPECT_EQ(Rasq(address, {"info"}, {absl::StrCat("RASQ_TOKEN=", kNews)}).code, 0);
  WriteTokens("next-secret-0123456789");
  server.Signal(SIGHUP);
  EXPECT_NE(server.WaitFor("reload: done"), "");
  EXPECT_EQ(Rasq(address, {"info"}, {absl::StrCat("RASQ_TOKEN=", kNews)}).code, 1);
  EXPECT_EQ(Rasq(address, {"info"}, {"RASQ_TOKEN=next-secret-0123456789"}).code, 0);
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(), 0);
}

TEST_F(OperatorTest, ASecondSignalEndsTheGrace) {
  Process server(ServerCommand({"--drain-grace=1h"}));
  const std::string address = server.WaitFor("listening on ([0-9.]+:[0-9]+)");
  ASSERT_NE(address, "") << server.err();
  const std::vector<std::string> news = {absl::StrCat("RASQ_TOKEN=", kNews)};
  ASSERT_EQ(Rasq(address, {"sessions", "create", "s"}, news).code, 0);
  Process ask({RASQ_CLI_BINARY, "--address", address, "ask", "s", "--raw", "--ignore-eos", "-n",
               "65536", "Once"},
              news);
  EXPECT_NE(ask.WaitFor("[a-z ]{4}"), "") << ask.err();
  server.Signal(SIGTERM);
  EXPECT_NE(server.WaitFor("stopping"), "");
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(), 0);
  EXPECT_EQ(ask.Wait(), 1);
}

TEST_F(OperatorTest, BadFilesEndTheStart) {
  WriteFile(auth_file_, "{");
  Process check(ServerCommand({"--check-config"}));
  EXPECT_EQ(check.Wait(), 1);
  EXPECT_THAT(check.err(), HasSubstr("auth_file: not JSON at byte="));
  WriteTokens(kNews);
  Process tls(ServerCommand({"--tls-cert=/no/such/file"}));
  EXPECT_EQ(tls.Wait(), 1);
  EXPECT_THAT(tls.err(), HasSubstr("tls_cert: must be a file"));
}

}  // namespace
}  // namespace rasq
