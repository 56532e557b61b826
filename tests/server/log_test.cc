#include "server/log.h"

#include <cstdlib>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace rasq {
namespace {

const absl::Time kTime = absl::FromUnixMillis(1'700'000'000'123);

LogEvent Refused() {
  return {.method = "Append",
          .session_id = "a\"b\n",
          .status = absl::InvalidArgumentError("content: \"x\"\n"),
          .duration = absl::Microseconds(1'500)};
}

struct Lines {
  int written = 0, left_out = 0;
};
Lines Count(std::FILE* stream, absl::string_view what) {
  std::rewind(stream);
  Lines lines;
  char line[512];
  while (std::fgets(line, sizeof(line), stream) != nullptr) {
    const absl::string_view text = line;
    lines.written += absl::StrContains(text, what);
    if (const size_t at = text.find("left out "); at != text.npos) {
      lines.left_out += std::atoi(line + at + 9);
    }
  }
  return lines;
}

TEST(LogTest, OneLineOfText) {
  EXPECT_EQ(FormatEvent(LogFormat::kText, kTime,
                        {.method = "GetSession",
                         .session_id = "news",
                         .status = absl::OkStatus(),
                         .duration = absl::Microseconds(12)}),
            "2023-11-14T22:13:20.123Z call method=GetSession session=news code=OK "
            "seconds=0.000012\n");
}

TEST(LogTest, WhatClientsSayCannotEndTheLine) {
  EXPECT_EQ(FormatEvent(LogFormat::kText, kTime, Refused()),
            "2023-11-14T22:13:20.123Z call method=Append session=a\\\"b\\n code=INVALID_ARGUMENT "
            "seconds=0.001500 message=\"content: \\\"x\\\"\\n\"\n");
  EXPECT_EQ(FormatEvent(LogFormat::kJson, kTime, Refused()),
            "{\"time\":\"2023-11-14T22:13:20.123Z\",\"event\":\"call\",\"method\":\"Append\","
            "\"session\":\"a\\\"b\\u000a\",\"code\":\"INVALID_ARGUMENT\",\"seconds\":0.001500,"
            "\"message\":\"content: \\\"x\\\"\\u000a\"}\n");
}

TEST(LogTest, WhatACallHasIsInItsLine) {
  const LogEvent event = {.method = "Generate",
                          .request_id = "r-1",
                          .tenant = "news",
                          .session_id = "wire",
                          .status = absl::OkStatus(),
                          .duration = absl::Seconds(2),
                          .tokens_in = 3,
                          .tokens_out = 0,
                          .trace_id = "4bf9",
                          .parent_id = "00f0"};
  EXPECT_EQ(FormatEvent(LogFormat::kText, kTime, event),
            "2023-11-14T22:13:20.123Z call method=Generate request=r-1 tenant=news session=wire "
            "code=OK seconds=2.000000 tokens_in=3 tokens_out=0 trace=4bf9 parent=00f0\n");
  EXPECT_EQ(FormatEvent(LogFormat::kJson, kTime, event),
            "{\"time\":\"2023-11-14T22:13:20.123Z\",\"event\":\"call\",\"method\":\"Generate\","
            "\"request\":\"r-1\",\"tenant\":\"news\",\"session\":\"wire\",\"code\":\"OK\","
            "\"seconds\":2.000000,\"tokens_in\":3,\"tokens_out\":0,\"trace\":\"4bf9\","
            "\"parent\":\"00f0\"}\n");
}

TEST(LineLimitTest, CountsWhatItLeavesOut) {
  LineLimit limit(/*lines=*/2, absl::Seconds(1));
  EXPECT_TRUE(limit.Admit(kTime));
  EXPECT_TRUE(limit.Admit(kTime + absl::Milliseconds(1)));
  EXPECT_FALSE(limit.Admit(kTime + absl::Milliseconds(2)));
  EXPECT_FALSE(limit.Admit(kTime + absl::Milliseconds(999)));
  EXPECT_EQ(limit.TakeLeftOut(kTime + absl::Milliseconds(999)), 0) << "its second is not over";
  EXPECT_EQ(limit.TakeLeftOut(kTime + absl::Seconds(1)), 2);
  EXPECT_EQ(limit.TakeLeftOut(kTime + absl::Seconds(1)), 0);
  EXPECT_TRUE(limit.Admit(kTime + absl::Seconds(1)));
}

TEST(LineLimitTest, ZeroIsNoLimit) {
  LineLimit limit(/*lines=*/0, absl::Seconds(1));
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(limit.Admit(kTime));
}

TEST(LogTest, StormsOfFailuresAreShort) {
  std::FILE* const stream = std::tmpfile();
  {
    const Log log(LogFormat::kText, stream, /*max_failures_per_second=*/3);
    for (int i = 0; i < 500; ++i) {
      log.Call(Refused());
      log.Complaint("INVALID_ARGUMENT of another kind");
    }
    log.Call({.method = "GetSession", .status = absl::OkStatus()});
  }
  const Lines refused = Count(stream, "INVALID_ARGUMENT");
  // On a slow machine the storm is of more than one second.
  EXPECT_LT(refused.written, 100);
  EXPECT_EQ(refused.written + refused.left_out, 1000);
  EXPECT_EQ(Count(stream, "code=OK").written, 1);
  std::fclose(stream);
}

TEST(LogTest, FaultsThatLastAreFewLines) {
  const LogEvent fault = {.name = "state_write",
                          .session_id = "wire",
                          .status = absl::ResourceExhaustedError("the disk is full")};
  EXPECT_EQ(FormatEvent(LogFormat::kText, kTime, fault),
            "2023-11-14T22:13:20.123Z state_write session=wire code=RESOURCE_EXHAUSTED "
            "message=\"the disk is full\"\n");
  EXPECT_EQ(FormatEvent(LogFormat::kJson, kTime, fault),
            "{\"time\":\"2023-11-14T22:13:20.123Z\",\"event\":\"state_write\","
            "\"session\":\"wire\",\"code\":\"RESOURCE_EXHAUSTED\","
            "\"message\":\"the disk is full\"}\n");
  std::FILE* const stream = std::tmpfile();
  {
    const Log log(LogFormat::kText, stream);
    for (int i = 0; i < 500; ++i) log.Fault(fault);
  }
  const Lines said = Count(stream, "the disk is full");
  EXPECT_LT(said.written, 100);
  EXPECT_EQ(said.written + said.left_out, 500);
  std::fclose(stream);
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
