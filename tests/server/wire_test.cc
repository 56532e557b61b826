#include "server/wire.h"

#include <string>

#include "gtest/gtest.h"
#include "rasq/v1/session.pb.h"

namespace rasq {
namespace {

grpc::ByteBuffer ToBuffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

// One length-delimited field of a number below 16.
std::string Field(int number, const std::string& value) {
  return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(value.size())} + value;
}

TEST(Utf8Test, AcceptsTheEdgesOfEveryLength) {
  for (const char* text :
       {"", "a", "\x7f", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
        "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_EQ(FindNonUtf8(text), -1) << text;
  }
}

TEST(Utf8Test, RefusesWhatLiesBeyondThem) {
  for (const char* text :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2\x7F", "\xE0\x9F\xBF", "\xED\xA0\x80",
        "\xE1\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF"}) {
    EXPECT_EQ(FindNonUtf8(text), 0) << text;
    EXPECT_EQ(FindNonUtf8(std::string("ab\u00e9") + text + "c"), 4) << text;
  }
}

TEST(WireTest, NamesTheFieldThatIsNotUtf8) {
  v1::AppendRequest request;
  const std::string bytes = Field(1, "news") + Field(2, Field(1, "seventeen bytes.\xFF"));
  const absl::Status status = ParseMessage(ToBuffer(bytes), request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "content.text: not UTF-8 at byte 16");
}

TEST(WireTest, NamesElementsAndMapEntries) {
  v1::GenerateRequest generate;
  const std::string stop = Field(3, "good") + Field(3, "\xC3") + std::string("\x08\x05");
  EXPECT_EQ(ParseMessage(ToBuffer(Field(1, "s") + Field(4, stop)), generate).message(),
            "stop.stop_strings[1]: not UTF-8 at byte 0");
  v1::CreateSessionRequest create;
  const std::string labels = Field(3, Field(1, "k") + Field(2, "v")) + Field(3, Field(1, "k\xFF"));
  EXPECT_EQ(ParseMessage(ToBuffer(labels), create).message(), "labels.key: not UTF-8 at byte 1");
}

TEST(WireTest, OtherGarbageIsNamedAsSuch) {
  v1::AppendRequest request;
  for (const std::string& bytes :
       {std::string("\x0A\x7F"), std::string("\xFF\xFF\xFF"), std::string("\x12\x05\x0A\x09"),
        std::string("\x0B"), std::string(1, '\0')}) {
    EXPECT_EQ(ParseMessage(ToBuffer(bytes), request).message(),
              "request: not a rasq.v1.AppendRequest");
  }
}

TEST(WireTest, RoundTrip) {
  v1::AppendRequest request;
  request.set_session_id("s");
  request.mutable_content()->set_text(std::string(1 << 20, 'x'));
  v1::AppendRequest back;
  ASSERT_TRUE(ParseMessage(SerializeMessage(request), back).ok());
  EXPECT_EQ(back.SerializeAsString(), request.SerializeAsString());
  ASSERT_TRUE(ParseMessage(SerializeMessage(v1::AppendRequest()), back).ok());
  EXPECT_EQ(back.ByteSizeLong(), 0u);
}

}  // namespace
}  // namespace rasq
