// Several engines as one: where sessions go, and that every call finds its session.
#include "engine/engine_group.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/engine_harness.h"
#include "tests/support/model_harness.h"

namespace rasq {
namespace {

using testing::Answer;
using testing::CollectingSink;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Pending;
using testing::Prose;

// Two engines on the processor, with two slots each.
EngineOptions TwoDevices() {
  EngineOptions options = testing::ShippedModel();
  options.ops.device = "cpu,cpu";
  options.max_sessions = 2;
  options.max_generations = 2;
  options.max_full_sessions = 1;
  return options;
}

class EngineGroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto group = EngineGroup::Create(TwoDevices(), nullptr);
    ASSERT_TRUE(group.ok()) << group.status();
    group_ = *std::move(group);
  }

  // Creates a session and says on which engine it is; -1 on failure.
  int Create(const std::string& id, Strategy strategy = Strategy::kDefault) {
    const auto session = group_->CreateSession({.id = id, .options = {.strategy = strategy}});
    return session.ok() ? EngineOf(session->id) : -1;
  }
  int EngineOf(const std::string& id) const {
    for (int i = 0; i < group_->size(); ++i) {
      if (group_->engine(i).HasSession(id)) return i;
    }
    return -1;
  }
  absl::Status Delete(const std::string& id) {
    auto pending = std::make_shared<Pending<absl::Status>>();
    group_->DeleteSession(id, [pending](absl::Status status) { pending->Set(status); });
    return pending->Wait();
  }
  absl::Status Append(const std::string& id, const std::string& text) {
    auto pending = std::make_shared<Pending<absl::Status>>();
    const auto receipt = group_->Append(
        {.session = id, .content = text},
        [pending](const absl::StatusOr<AppendResult>& result) { pending->Set(result.status()); });
    return receipt.ok() ? pending->Wait() : receipt.status();
  }
  static GenerateRequest Request(const std::string& id, int32_t max_new_tokens) {
    GenerateRequest request{.session = id, .prompt = std::string(" The")};
    request.stop = {.max_new_tokens = max_new_tokens, .ignore_eos = true};
    return request;
  }

  std::unique_ptr<EngineGroup> group_;
};

TEST_F(EngineGroupTest, SessionsGoWhereMostPlacesAreFree) {
  EXPECT_EQ(Create("a"), 0);
  EXPECT_EQ(Create("b"), 1);
  EXPECT_EQ(Create("c"), 0);
  ASSERT_TRUE(Delete("c").ok());
  ASSERT_TRUE(Delete("a").ok());
  EXPECT_EQ(Create("d"), 0);
  EXPECT_EQ(Create("e"), 0);
  EXPECT_EQ(Create("f"), 1);
  const absl::Status full = group_->CreateSession({}).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()),
              HasSubstr("all 2 places are taken, on each of 2 devices"));
  // Strategy full has a pool of its own.
  EXPECT_EQ(Create("g", Strategy::kFull), 0);
  EXPECT_EQ(Create("h", Strategy::kFull), 1);
}

TEST_F(EngineGroupTest, IdsAreThoseOfTheGroup) {
  EXPECT_EQ(Create("session-2"), 0);
  const auto first = group_->CreateSession({.request_id = "r"});
  const auto second = group_->CreateSession({});
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->id, "session-1");
  EXPECT_EQ(second->id, "session-3");
  for (const char* id : {"session-1", "session-2", "session-3"}) {
    EXPECT_EQ(group_->CreateSession({.id = id}).status().code(), absl::StatusCode::kAlreadyExists);
  }
  // A repeated request gives the same session, though another engine has more room.
  EXPECT_EQ(EngineOf(first->id), 1);
  ASSERT_TRUE(Delete("session-2").ok());
  const auto again = group_->CreateSession({.request_id = "r"});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->id, first->id);
  EXPECT_EQ(group_->Stats().sessions_open, 2);
}

TEST_F(EngineGroupTest, ListsInOrderOfIds) {
  for (const char* id : {"d", "b", "c", "a"}) ASSERT_GE(Create(id), 0);
  const auto ids = [](const SessionPage& page) {
    std::vector<std::string> names;
    for (const SessionInfo& session : page.sessions) names.push_back(session.id);
    return names;
  };
  const SessionPage first = *group_->ListSessions("", 3, "");
  EXPECT_THAT(ids(first), ElementsAre("a", "b", "c"));
  EXPECT_EQ(first.next_page_token, "c");
  const SessionPage second = *group_->ListSessions("", 3, first.next_page_token);
  EXPECT_THAT(ids(second), ElementsAre("d"));
  EXPECT_EQ(second.next_page_token, "");
  EXPECT_THAT(ids(*group_->ListSessions("", 0, "")), ElementsAre("a", "b", "c", "d"));
  EXPECT_FALSE(group_->ListSessions("", -1, "").ok());
}

TEST_F(EngineGroupTest, CallsFindTheirSession) {
  const auto alone = testing::StartEngine(testing::ShippedModel());
  for (const char* id : {"a", "b", "c"}) {
    ASSERT_GE(Create(id), 0);
    const std::string text = Prose(/*seed=*/id[0], 1500);
    ASSERT_TRUE(Append(id, text).ok());
    testing::CreateSession(*alone, id);
    ASSERT_TRUE(testing::Append(*alone, id, text).ok());
  }
  EXPECT_EQ(EngineOf("b"), 1);
  for (const char* id : {"c", "b", "a"}) {
    auto sink = std::make_shared<CollectingSink>();
    ASSERT_TRUE(group_->Generate(Request(id, 6), sink).ok());
    const auto got = sink->Wait();
    const auto want = testing::Generate(*alone, Request(id, 6));
    ASSERT_TRUE(got.ok() && want.ok());
    EXPECT_EQ(got->ids(), want->ids()) << id;
    EXPECT_EQ(group_->GetSession(id)->context_tokens, alone->GetSession(id)->context_tokens);
  }
  EXPECT_EQ(Append("none", "x").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Delete("none").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(group_->GetSession("none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(group_->Generate(Request("none", 1), nullptr).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(EngineGroupTest, CancelEndsTheRightGeneration) {
  std::vector<int64_t> handles;
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (const char* id : {"a", "b"}) {
    ASSERT_GE(Create(id), 0);
    sinks.push_back(std::make_shared<CollectingSink>());
    const auto handle = group_->Generate(Request(id, 60000), sinks.back());
    ASSERT_TRUE(handle.ok()) << handle.status();
    handles.push_back(*handle);
  }
  EXPECT_NE(handles[0], handles[1]);
  group_->Cancel(handles[1]);
  EXPECT_EQ(sinks[1]->Wait().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(group_->Stats().generations_running + group_->Stats().generations_queued, 1);
  group_->Cancel(handles[0]);
  EXPECT_EQ(sinks[0]->Wait().status().code(), absl::StatusCode::kCancelled);
}

TEST_F(EngineGroupTest, SumsWhatTheEnginesHave) {
  EXPECT_EQ(group_->size(), 2);
  EXPECT_EQ(group_->model().session_slots, 4);
  EXPECT_EQ(group_->model().device, "cpu,cpu");
  EXPECT_EQ(group_->engine(1).model().session_slots, 2);
  EXPECT_TRUE(group_->Health().ok());
  ASSERT_GE(Create("a"), 0);
  ASSERT_GE(Create("b"), 0);
  const EngineStats stats = group_->Stats();
  EXPECT_EQ(stats.slots_total, 4);
  EXPECT_EQ(stats.sessions_open, 2);
  EXPECT_EQ(stats.work_slots, 4);
  EXPECT_EQ(stats.backlog_limit_tokens, 2 * TwoDevices().max_total_backlog_tokens);
  EXPECT_EQ(stats.weight_bytes, 2 * group_->engine(0).Stats().weight_bytes);
}

TEST(EngineGroupDevicesTest, FaultsNameTheDevice) {
  const auto create = [](const std::string& device) {
    EngineOptions options = TwoDevices();
    options.ops.device = device;
    return EngineGroup::Create(options, nullptr).status();
  };
  const absl::Status twice = create("cuda:0,cuda:1,cuda:0");
  EXPECT_EQ(twice.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(twice.message()), HasSubstr("cuda:0 stands twice"));
  EXPECT_EQ(create("cpu,").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create("cuda:all,cpu").code(), absl::StatusCode::kInvalidArgument);
  if (!OpenOps({.device = "cuda"}).ok()) {
    EXPECT_EQ(create("cuda:all").code(), absl::StatusCode::kUnavailable);
  }
}

}  // namespace
}  // namespace rasq
