#include "server/address.h"

#include "gtest/gtest.h"

namespace rasq {
namespace {

TEST(AddressTest, ReadsBothFamilies) {
  const absl::StatusOr<Address> four = ParseAddress("10.1.2.3:80");
  ASSERT_TRUE(four.ok());
  EXPECT_EQ(four->ToString(), "10.1.2.3:80");
  EXPECT_FALSE(four->is_loopback());
  const absl::StatusOr<Address> six = ParseAddress("[::1]:0");
  ASSERT_TRUE(six.ok());
  EXPECT_EQ(six->ToString(), "[::1]:0");
  EXPECT_TRUE(six->is_loopback());
  const absl::StatusOr<Address> name = ParseAddress("localhost:50051");
  ASSERT_TRUE(name.ok());
  EXPECT_EQ(name->ToString(), "127.0.0.1:50051");
  EXPECT_TRUE(name->is_loopback());
}

TEST(AddressTest, AllInterfacesAreNotLoopback) {
  EXPECT_FALSE(ParseAddress("0.0.0.0:1")->is_loopback());
  EXPECT_FALSE(ParseAddress("[::]:1")->is_loopback());
}

TEST(AddressTest, RefusesTheRest) {
  for (const char* text :
       {"", ":", "50051", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1",
        "127.0.0.1:x", "::1:50051", "[127.0.0.1]:1", "example.org:80", "[::1:50051", "127.1:80"}) {
    EXPECT_EQ(ParseAddress(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace rasq
