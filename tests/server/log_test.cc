#include "server/log.h"

#include "gtest/gtest.h"

namespace rasq {
namespace {

const absl::Time kTime = absl::FromUnixMillis(1'700'000'000'123);

CallEvent Refused() {
  return {.method = "Append",
          .session_id = "a\"b\n",
          .status = absl::InvalidArgumentError("content: \"x\"\n"),
          .duration = absl::Microseconds(1'500)};
}

TEST(LogTest, OneLineOfText) {
  EXPECT_EQ(FormatCall(LogFormat::kText, kTime,
                       {.method = "GetSession",
                        .session_id = "news",
                        .status = absl::OkStatus(),
                        .duration = absl::Microseconds(12)}),
            "2023-11-14T22:13:20.123Z call method=GetSession session=news code=OK "
            "seconds=0.000012\n");
}

TEST(LogTest, WhatClientsSayCannotEndTheLine) {
  EXPECT_EQ(FormatCall(LogFormat::kText, kTime, Refused()),
            "2023-11-14T22:13:20.123Z call method=Append session=a\\\"b\\n code=INVALID_ARGUMENT "
            "seconds=0.001500 message=\"content: \\\"x\\\"\\n\"\n");
  EXPECT_EQ(FormatCall(LogFormat::kJson, kTime, Refused()),
            "{\"time\":\"2023-11-14T22:13:20.123Z\",\"event\":\"call\",\"method\":\"Append\","
            "\"session\":\"a\\\"b\\u000a\",\"code\":\"INVALID_ARGUMENT\",\"seconds\":0.001500,"
            "\"message\":\"content: \\\"x\\\"\\u000a\"}\n");
}

TEST(LogTest, Messages) {
  EXPECT_EQ(FormatMessage(LogFormat::kText, kTime, "stopping"),
            "2023-11-14T22:13:20.123Z stopping\n");
  EXPECT_EQ(FormatMessage(LogFormat::kJson, kTime, "stopping"),
            "{\"time\":\"2023-11-14T22:13:20.123Z\",\"event\":\"message\","
            "\"message\":\"stopping\"}\n");
}

}  // namespace
}  // namespace rasq
