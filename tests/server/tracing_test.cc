#include "server/tracing.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rasq {
namespace {

TEST(RequestIdTest, ClientsChooseTheirs) {
  EXPECT_EQ(RequestId("job-7.retry_2"), "job-7.retry_2");
  EXPECT_EQ(RequestId(std::string(64, 'x')), std::string(64, 'x'));
}

TEST(RequestIdTest, WhatIsNoneIsReplaced) {
  for (const std::string& bad : {std::string(), std::string(65, 'x'), std::string("a b"),
                                 std::string("a\nb"), std::string("\xC3\xA4")}) {
    EXPECT_THAT(RequestId(bad), ::testing::ContainsRegex("^[0-9a-f]{32}$")) << bad;
  }
  EXPECT_NE(RequestId(""), RequestId(""));
}

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kParent[] = "00f067aa0ba902b7";

TEST(TraceParentTest, TakesTheStandardsExample) {
  const auto trace = ParseTraceParent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  ASSERT_TRUE(trace.has_value());
  EXPECT_EQ(trace->trace_id, kTrace);
  EXPECT_EQ(trace->parent_id, kParent);
  EXPECT_TRUE(
      ParseTraceParent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-will-be"));
}

TEST(TraceParentTest, IgnoresWhatIsMalformed) {
  for (const char* bad : {
           "",
           "00",
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
           "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
           "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
           "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
           "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
           "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
           "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
       }) {
    EXPECT_FALSE(ParseTraceParent(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace rasq
