// Forks, snapshots and durable sessions: a copy of a session goes on as the session itself would,
// and a file that is not what it was is refused.
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine_group.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/backends.h"
#include "tests/support/engine_harness.h"
#include "tests/support/temporary_directory.h"

namespace rasq {
namespace {

using testing::Append;
using testing::CreateSession;
using ::testing::ElementsAre;
using testing::Fork;
using ::testing::HasSubstr;
using testing::NextTokens;
using testing::Prose;
using testing::Restore;
using testing::Snapshot;
using testing::TemporaryDirectory;

using SessionOr = absl::StatusOr<SessionInfo>;

class SnapshotTest : public testing::BackendTest {
 protected:
  void SetUp() override {
    BackendTest::SetUp();
    if (IsSkipped()) return;
    options_ = testing::ShippedModel(GetParam());
    options_.snapshot_dir = directory_.path();
    group_ = Start();
  }
  std::unique_ptr<EngineGroup> Start() {
    auto group = EngineGroup::Create(options_, nullptr);
    if (!group.ok()) ADD_FAILURE() << group.status();
    return group.ok() ? *std::move(group) : nullptr;
  }
  // A session that has filled its buffer and ends in the middle of a word.
  void MakeSession(const std::string& id) {
    CreateSession(*group_, id, {.replacement_noise = 0.3, .seed = 5});
    ASSERT_TRUE(Append(*group_, id, std::string("Never forget this. "), /*pinned=*/true).ok());
    ASSERT_TRUE(Append(*group_, id, Prose(1, 8000) + "The lighth").ok());
  }
  // That two sessions are the same now, and after more of the same text.
  void ExpectSame(EngineGroup& group, const std::string& a, const std::string& b) {
    EXPECT_EQ(group.GetSession(a)->context_tokens, group.GetSession(b)->context_tokens);
    EXPECT_EQ(group.GetSession(a)->next_offset, group.GetSession(b)->next_offset);
    EXPECT_EQ(NextTokens(group, a, 100), NextTokens(group, b, 100));
    const std::string more = "ouse keeper came. " + Prose(2, 3000);
    ASSERT_TRUE(Append(group, a, more).ok());
    ASSERT_TRUE(Append(group, b, more).ok());
    EXPECT_EQ(NextTokens(group, a, 100), NextTokens(group, b, 100));
  }

  TemporaryDirectory directory_;
  EngineOptions options_;
  std::unique_ptr<EngineGroup> group_;
};
INSTANTIATE_TEST_SUITE_P(All, SnapshotTest, ::testing::Values("float32", "bfloat16", "cuda"),
                         testing::BackendName);

TEST_P(SnapshotTest, AForkGoesOnAsItsOrigin) {
  MakeSession("a");
  const auto fork = Fork(*group_, {.session = "a", .new_id = "b"});
  ASSERT_TRUE(fork.ok()) << fork.status();
  EXPECT_EQ(fork->id, "b");
  ExpectSame(*group_, "a", "b");
  // They have nothing in common any more.
  const auto before = NextTokens(*group_, "b", 16);
  ASSERT_TRUE(Append(*group_, "a", Prose(9, 2000)).ok());
  EXPECT_EQ(NextTokens(*group_, "b", 16), before);
  ASSERT_TRUE(testing::DeleteSession(*group_, "a").ok());
  EXPECT_EQ(NextTokens(*group_, "b", 16), before);
}

TEST_P(SnapshotTest, AForkHasWhatWasAcceptedBeforeIt) {
  CreateSession(*group_, "a");
  const std::string text = Prose(4, 8000);
  ASSERT_TRUE(
      group_->Append({.session = "a", .content = text}, [](const absl::StatusOr<AppendResult>&) {})
          .ok());
  ASSERT_TRUE(Fork(*group_, {.session = "a", .new_id = "b"}).ok());
  EXPECT_EQ(group_->GetSession("b")->next_offset, static_cast<int64_t>(text.size()));
  ExpectSame(*group_, "a", "b");
}

TEST_P(SnapshotTest, ForksAreRefusedAsCreatesAre) {
  MakeSession("a");
  using Code = absl::StatusCode;
  EXPECT_EQ(Fork(*group_, {.session = "a", .new_id = "a"}).status().code(), Code::kAlreadyExists);
  EXPECT_EQ(Fork(*group_, {.session = "a", .new_id = "?"}).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(Fork(*group_, {.session = "none"}).status().code(), Code::kNotFound);
  const auto first = Fork(*group_, {.session = "a", .request_id = "r"});
  const auto again = Fork(*group_, {.session = "a", .request_id = "r"});
  ASSERT_TRUE(first.ok() && again.ok());
  EXPECT_EQ(first->id, again->id);
  for (int i = 0; i < 6; ++i) EXPECT_TRUE(Fork(*group_, {.session = "a"}).ok());
  EXPECT_EQ(Fork(*group_, {.session = "a"}).status().code(), Code::kResourceExhausted);
}

TEST_P(SnapshotTest, ARestoredSessionGoesOnAsItsOrigin) {
  MakeSession("a");
  const auto snapshot = Snapshot(*group_, {.session = "a", .snapshot_id = "one"});
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  EXPECT_EQ(snapshot->session_id, "a");
  EXPECT_EQ(snapshot->context_tokens, group_->GetSession("a")->context_tokens);
  EXPECT_GT(snapshot->file_bytes, group_->model().session_state_bytes);
  const auto restored = Restore(*group_, {.snapshot = "one", .session_id = "b"});
  ASSERT_TRUE(restored.ok()) << restored.status();
  ExpectSame(*group_, "a", "b");
}

TEST_P(SnapshotTest, AnotherServerRestoresIt) {
  MakeSession("a");
  ASSERT_TRUE(Snapshot(*group_, {.session = "a", .snapshot_id = "one"}).ok());
  const auto wanted = NextTokens(*group_, "a", 100);
  group_ = Start();
  ASSERT_TRUE(Restore(*group_, {.snapshot = "one", .session_id = "b"}).ok());
  EXPECT_EQ(NextTokens(*group_, "b", 100), wanted);
}

TEST_P(SnapshotTest, AnEmptySessionIsASnapshotToo) {
  CreateSession(*group_, "a");
  ASSERT_TRUE(Snapshot(*group_, {.session = "a", .snapshot_id = "nothing"}).ok());
  ASSERT_TRUE(Restore(*group_, {.snapshot = "nothing", .session_id = "b"}).ok());
  ASSERT_TRUE(Fork(*group_, {.session = "a", .new_id = "c"}).ok());
  for (const char* id : {"a", "b", "c"}) {
    EXPECT_EQ(group_->GetSession(id)->context_tokens, 0);
    ASSERT_TRUE(Append(*group_, id, Prose(3, 2000)).ok());
    EXPECT_EQ(NextTokens(*group_, id, 16), NextTokens(*group_, "a", 16));
  }
}

TEST_P(SnapshotTest, AnotherConfigurationIsRefused) {
  MakeSession("a");
  ASSERT_TRUE(Snapshot(*group_, {.session = "a", .snapshot_id = "one"}).ok());
  options_.capacity_tokens = 512;
  group_ = Start();
  const SessionOr refused = Restore(*group_, {.snapshot = "one", .session_id = "b"});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("snapshot_id=one: capacity_tokens=1024, this server has 512"));
  EXPECT_FALSE(group_->GetSession("b").ok());
}

TEST_P(SnapshotTest, EntriesOfAnotherTypeAreRefused) {
  MakeSession("a");
  ASSERT_TRUE(Snapshot(*group_, {.session = "a", .snapshot_id = "one"}).ok());
  options_.entry_type = EntryType::kInt8;
  group_ = Start();
  const SessionOr refused = Restore(*group_, {.snapshot = "one", .session_id = "b"});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(
      std::string(refused.status().message()),
      HasSubstr("snapshot_id=one: entry_type=" + group_->model().dtype + ", this server has int8"));
  // Its own it takes.
  MakeSession("c");
  ASSERT_TRUE(Snapshot(*group_, {.session = "c", .snapshot_id = "two"}).ok());
  ASSERT_TRUE(Restore(*group_, {.snapshot = "two", .session_id = "d"}).ok());
  EXPECT_EQ(NextTokens(*group_, "d", 16), NextTokens(*group_, "c", 16));
}

// Flips a byte, or cuts the file there.
void Damage(const std::string& path, int64_t at, bool cut) {
  if (cut) {
    std::filesystem::resize_file(path, at);
    return;
  }
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(at);
  const char byte = static_cast<char>(file.get() ^ 0x20);
  file.seekp(at);
  file.put(byte);
}

TEST_P(SnapshotTest, DamageIsFoundWhereverItIs) {
  MakeSession("a");
  ASSERT_TRUE(Snapshot(*group_, {.session = "a", .snapshot_id = "one"}).ok());
  const std::string path = directory_.path() + "/tenant-/one.snapshot";
  const std::string copy = path + ".copy";
  std::filesystem::copy_file(path, copy);
  const int64_t bytes = static_cast<int64_t>(std::filesystem::file_size(path));
  for (const bool cut : {false, true}) {
    for (const int64_t at : {int64_t{0}, int64_t{8}, int64_t{12}, int64_t{20}, int64_t{44},
                             int64_t{60}, int64_t{400}, bytes / 2, bytes - 1}) {
      std::filesystem::copy_file(copy, path, std::filesystem::copy_options::overwrite_existing);
      Damage(path, at, cut);
      const SessionOr refused = Restore(*group_, {.snapshot = "one", .session_id = "b"});
      // A flipped version is one that this server does not know.
      EXPECT_EQ(refused.status().code(), at == 8 && !cut ? absl::StatusCode::kFailedPrecondition
                                                         : absl::StatusCode::kDataLoss)
          << at << " " << cut << " " << refused.status();
      EXPECT_THAT(std::string(refused.status().message()), HasSubstr("snapshot_id=one: "));
      EXPECT_FALSE(group_->GetSession("b").ok());
    }
  }
  std::filesystem::copy_file(copy, path, std::filesystem::copy_options::overwrite_existing);
  EXPECT_TRUE(Restore(*group_, {.snapshot = "one", .session_id = "b"}).ok());
}

TEST_P(SnapshotTest, SnapshotsAreListedAndDeletedByTheirTenant) {
  ASSERT_TRUE(group_->CreateSession({.tenant = "x", .id = "a"}).ok());
  CreateSession(*group_, "a");
  for (const char* id : {"p", "q", "r"}) {
    ASSERT_TRUE(Snapshot(*group_, {.session = {"x", "a"}, .snapshot_id = id}).ok());
  }
  const auto ids = [&](const std::string& tenant, int32_t size, const std::string& token) {
    std::vector<std::string> all;
    const SnapshotPage page = *group_->ListSnapshots(tenant, size, token);
    for (const SnapshotInfo& info : page.snapshots) all.push_back(info.id);
    return all;
  };
  EXPECT_THAT(ids("x", 0, ""), ElementsAre("p", "q", "r"));
  EXPECT_THAT(ids("x", 2, ""), ElementsAre("p", "q"));
  EXPECT_EQ(group_->ListSnapshots("x", 2, "")->next_page_token, "q");
  EXPECT_THAT(ids("x", 2, "q"), ElementsAre("r"));
  EXPECT_THAT(ids("", 0, ""), ElementsAre());
  EXPECT_EQ(Restore(*group_, {.snapshot = "p"}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(group_->DeleteSnapshot("p").code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(group_->DeleteSnapshot({"x", "p"}).ok());
  EXPECT_THAT(ids("x", 0, ""), ElementsAre("q", "r"));
  EXPECT_TRUE(Restore(*group_, {.snapshot = {"x", "q"}, .session_id = "b"}).ok());
  EXPECT_TRUE(group_->GetSession({"x", "b"}).ok());
  EXPECT_FALSE(group_->GetSession("b").ok());
}

TEST_P(SnapshotTest, WithoutADirectoryThereAreNone) {
  options_.snapshot_dir.clear();
  group_ = Start();
  CreateSession(*group_, "a");
  using Code = absl::StatusCode;
  EXPECT_EQ(Snapshot(*group_, {.session = "a"}).status().code(), Code::kFailedPrecondition);
  EXPECT_EQ(Restore(*group_, {.snapshot = "a"}).status().code(), Code::kFailedPrecondition);
  EXPECT_EQ(group_->ListSnapshots("", 0, "").status().code(), Code::kFailedPrecondition);
}

// What a crash leaves is what is on disk at that moment: the directory is copied while the server
// runs, and another server starts from the copy.
class DurableTest : public testing::BackendTest {
 protected:
  EngineOptions Options(const std::string& directory) {
    EngineOptions options = testing::ShippedModel(GetParam());
    if (small_model_) {
      options.model = RASQ_SOURCE_DIR "/tests/testdata/tiny";
      options.load_format = LoadFormat::kDummy;  // it has no tokenizer
    }
    options.state_dir = directory;
    options.durable = true;
    return options;
  }
  std::unique_ptr<EngineGroup> Start(const std::string& directory) {
    auto group = EngineGroup::Create(Options(directory), nullptr,
                                     [](const std::string& line) { ADD_FAILURE() << line; });
    if (!group.ok()) ADD_FAILURE() << group.status();
    return group.ok() ? *std::move(group) : nullptr;
  }
  std::unique_ptr<EngineGroup> Crash(const std::string& name) {
    const std::string copy = absl::StrCat(directory_.path(), "/", name);
    std::filesystem::copy(running(), copy, std::filesystem::copy_options::recursive);
    return Start(copy);
  }
  std::string running() const { return directory_.path() + "/running"; }

  TemporaryDirectory directory_;
  bool small_model_ = false;  // for more tokens than the shipped one absorbs in a second
};
INSTANTIATE_TEST_SUITE_P(All, DurableTest, ::testing::Values("float32", "cuda"),
                         testing::BackendName);

TEST_P(DurableTest, WhatIsAcknowledgedSurvives) {
  const auto group = Start(running());
  ASSERT_NE(group, nullptr);
  CreateSession(*group, "a", {.replacement_noise = 0.2, .seed = 3});
  CreateSession(*group, "empty");
  CreateSession(*group, "deleted");
  ASSERT_TRUE(Append(*group, "deleted", Prose(1, 500)).ok());
  ASSERT_TRUE(testing::DeleteSession(*group, "deleted").ok());
  ASSERT_TRUE(Append(*group, "a", std::string("Keep me. "), /*pinned=*/true).ok());
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Append(*group, "a", Prose(i, 3000) + "The lig").ok());
  GenerateRequest request{.session = "a", .prompt = std::string("hthouse"), .commit = true};
  request.stop = {.max_new_tokens = 8, .ignore_eos = true};
  ASSERT_TRUE(testing::Generate(*group, request).ok());
  ASSERT_TRUE(Append(*group, "a", std::string(" and then")).ok());

  const auto after = Crash("after");
  ASSERT_NE(after, nullptr);
  EXPECT_EQ(after->GetSession("deleted").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(after->GetSession("empty")->context_tokens, 0);
  EXPECT_EQ(after->GetSession("a")->next_offset, group->GetSession("a")->next_offset);
  EXPECT_EQ(NextTokens(*after, "a", 100), NextTokens(*group, "a", 100));
  for (EngineGroup* each : {after.get(), group.get()}) {
    ASSERT_TRUE(Append(*each, "a", " it rained. " + Prose(8, 3000)).ok());
  }
  EXPECT_EQ(NextTokens(*after, "a", 100), NextTokens(*group, "a", 100));
  EXPECT_GT(group->Stats().log_entries, 6);
}

TEST_P(DurableTest, CheckpointsBoundWhatIsDoneAgain) {
  small_model_ = true;
  const auto group = Start(running());
  ASSERT_NE(group, nullptr);
  CreateSession(*group, "a");
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Append(*group, "a", Prose(i, 40000)).ok());
  ASSERT_GE(group->Stats().snapshots_written, 2);
  const auto after = Crash("after");
  ASSERT_NE(after, nullptr);
  const int64_t total = group->GetSession("a")->context_tokens;
  EXPECT_EQ(NextTokens(*after, "a", 100), NextTokens(*group, "a", 100));
  // Only the tokens behind the last checkpoint were absorbed again.
  EXPECT_LT(after->Stats().appended_tokens, total / 2);
  EXPECT_EQ(after->GetSession("a")->context_tokens, total);
}

TEST_P(DurableTest, ForksAndRestoredSessionsSurvive) {
  const auto group = Start(running());
  ASSERT_NE(group, nullptr);
  CreateSession(*group, "a");
  ASSERT_TRUE(Append(*group, "a", Prose(1, 9000)).ok());
  ASSERT_TRUE(Fork(*group, {.session = "a", .new_id = "fork"}).ok());
  ASSERT_TRUE(Snapshot(*group, {.session = "a", .snapshot_id = "s"}).ok());
  ASSERT_TRUE(Restore(*group, {.snapshot = "s", .session_id = "restored"}).ok());
  ASSERT_TRUE(Append(*group, "fork", Prose(2, 2000)).ok());
  ASSERT_TRUE(Append(*group, "restored", Prose(3, 2000)).ok());
  const auto after = Crash("after");
  ASSERT_NE(after, nullptr);
  for (const char* id : {"a", "fork", "restored"}) {
    EXPECT_EQ(NextTokens(*after, id, 50), NextTokens(*group, id, 50)) << id;
  }
}

TEST_P(DurableTest, AnOrderlyEndAndManyStarts) {
  std::vector<int32_t> wanted;
  for (int run = 0; run < 3; ++run) {
    const auto group = Start(running());
    ASSERT_NE(group, nullptr);
    if (run == 0) CreateSession(*group, "a");
    if (run > 0) {
      EXPECT_EQ(NextTokens(*group, "a", 50), wanted) << run;
    }
    ASSERT_TRUE(Append(*group, "a", Prose(run, 4000)).ok());
    wanted = NextTokens(*group, "a", 50);
  }
}

}  // namespace
}  // namespace rasq
