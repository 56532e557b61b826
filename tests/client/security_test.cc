#include "client/security.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "client/rasq_client.h"

namespace rasq::client {
namespace {

constexpr char kSecret[] = "secret-0123456789";

TEST(IsLocalTest, OnlyThisMachine) {
  for (const char* local :
       {"127.0.0.1:50051", "127.1.2.3:1", "localhost:50051", "[::1]:50051", "unix:/run/rasq.sock",
        "dns:///localhost:1", "ipv4:127.0.0.1:1", "ipv6:[::1]:1"}) {
    EXPECT_TRUE(IsLocal(local)) << local;
  }
  for (const char* other :
       {"10.0.0.1:50051", "rasq.example:50051", "127.evil.example:1", "localhost.example:1",
        "[::2]:1", "[2001:db8::1]:1", "ipv4:127.0.0.1:1,10.0.0.1:1", "dns:///rasq:1", ""}) {
    EXPECT_FALSE(IsLocal(other)) << other;
  }
}

TEST(TokenTest, DoesNotPassANetworkInTheClear) {
  Security security;
  security.token = kSecret;
  EXPECT_EQ(*TokenFor(security, "127.0.0.1:1"), kSecret);
  const absl::Status refused = TokenFor(security, "10.0.0.1:1").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_EQ(refused.message().find(kSecret), absl::string_view::npos);
  security.insecure = true;
  EXPECT_TRUE(TokenFor(security, "10.0.0.1:1").ok());
  security.insecure = false;
  security.tls = true;
  EXPECT_TRUE(TokenFor(security, "10.0.0.1:1").ok());
  security.token = "two words";
  EXPECT_TRUE(absl::IsInvalidArgument(TokenFor(security, "127.0.0.1:1").status()));
}

TEST(TokenTest, ComesFromAFile) {
  Security security;
  security.token_file = ::testing::TempDir() + "client_token";
  std::ofstream(security.token_file) << kSecret << "\nand a comment\n";
  security.token = "another-0123456789";
  EXPECT_EQ(*TokenFor(security, "127.0.0.1:1"), kSecret);
  security.token_file = "/no/such/file";
  EXPECT_TRUE(absl::IsInvalidArgument(TokenFor(security, "127.0.0.1:1").status()));
}

TEST(SecurityTest, ComesFromTheEnvironment) {
  EXPECT_FALSE(Security().wants_tls());
  setenv("RASQ_TOKEN", kSecret, /*overwrite=*/1);
  setenv("RASQ_TLS_CA", "/ca.pem", /*overwrite=*/1);
  const Security security;
  unsetenv("RASQ_TOKEN");
  unsetenv("RASQ_TLS_CA");
  EXPECT_EQ(security.token, kSecret);
  EXPECT_EQ(security.ca, "/ca.pem");
  EXPECT_TRUE(security.wants_tls());
}

TEST(SecurityTest, WrongOptionsAreEveryCallsError) {
  ClientOptions options;
  options.security.ca = "/no/such/ca.pem";
  Client client(options);
  EXPECT_TRUE(absl::IsInvalidArgument(client.GetModel().status()));
  EXPECT_TRUE(absl::IsInvalidArgument(client.StartAppend("s")->Write("text")));
  EXPECT_TRUE(absl::IsInvalidArgument(client.Generate({}, [](const auto&) {}).status()));
  options.security.ca.clear();
  options.security.cert = "/cert.pem";
  EXPECT_TRUE(absl::IsInvalidArgument(Client(options).GetModel().status()));
}

}  // namespace
}  // namespace rasq::client
