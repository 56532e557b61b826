#include "engine/state_store.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/check_range.h"
#include "engine/session_file.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

namespace fs = std::filesystem;

// Enough to read one state while another is written; more would only queue at the disk.
constexpr int kThreads = 2;
constexpr char kStateSuffix[] = ".state";
constexpr char kSnapshotSuffix[] = ".snapshot";

absl::Status MakeDirectory(absl::string_view field, const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error && access(path.c_str(), R_OK | W_OK | X_OK) == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, "=", path, ": must be a directory that this process can write"));
}

// Paths of the files with that suffix, sorted.
std::vector<fs::path> FilesOf(const std::string& directory, absl::string_view suffix) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (absl::EndsWith(it->path().filename().string(), suffix)) paths.push_back(it->path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

absl::Status NoSnapshotDirectory() {
  return absl::FailedPreconditionError("snapshot_id: the server has no directory for snapshots");
}

SnapshotInfo SnapshotOf(const std::string& id, const SessionFileHeader& header) {
  return {.id = id,
          .create_time = header.record.last_use_time,
          .session_id = header.record.name.id,
          .context_tokens = header.record.context_tokens(),
          .next_offset = header.record.mark.next_offset,
          .file_bytes = header.file_bytes};
}

absl::StatusOr<std::shared_ptr<StateStore>> StateStore::Open(const EngineOptions& options) {
  if (options.durable && options.state_dir.empty()) {
    return absl::InvalidArgumentError("durable=true: needs a state_dir");
  }
  std::string states, snapshots = options.snapshot_dir;
  if (!options.state_dir.empty()) {
    states = absl::StrCat(options.state_dir, "/states");
    RASQ_RETURN_IF_ERROR(MakeDirectory("state_dir", states));
    if (snapshots.empty()) snapshots = absl::StrCat(options.state_dir, "/snapshots");
  }
  if (!snapshots.empty()) RASQ_RETURN_IF_ERROR(MakeDirectory("snapshot_dir", snapshots));
  std::shared_ptr<StateStore> store(new StateStore(std::move(states), std::move(snapshots)));
  if (options.durable) {
    RASQ_ASSIGN_OR_RETURN(store->log_, SessionLog::Open(absl::StrCat(options.state_dir, "/log")));
  }
  return store;
}

StateStore::StateStore(std::string state_dir, std::string snapshot_dir)
    : state_dir_(std::move(state_dir)), snapshot_dir_(std::move(snapshot_dir)) {
  for (int i = 0; i < kThreads; ++i) threads_.emplace_back([this] { Run(); });
}

StateStore::~StateStore() {
  log_.reset();  // its last callbacks submit
  {
    MutexLock lock(mu_);
    stopping_ = true;
    work_or_stop_.SignalAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void StateStore::Run() {
  while (true) {
    std::function<void()> task;
    {
      MutexLock lock(mu_);
      while (tasks_.empty() && !stopping_) work_or_stop_.Wait(mu_);
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

void StateStore::Submit(std::function<void()> task) {
  MutexLock lock(mu_);
  tasks_.push_back(std::move(task));
  work_or_stop_.Signal();
}

void StateStore::Remove(std::string path) {
  if (path.empty()) return;
  Submit([path = std::move(path)] { unlink(path.c_str()); });
}

int64_t StateStore::NewKey() {
  MutexLock lock(mu_);
  return next_key_++;
}

std::string StateStore::StatePath(int64_t key, int64_t logged, int64_t position) const {
  return absl::StrCat(state_dir_, "/", key, "-", logged, "-", position, kStateSuffix);
}

absl::Status StateStore::Recover(const std::function<void(StoredSession)>& session,
                                 const std::function<void(std::string)>& problem) {
  if (!has_states()) return absl::OkStatus();
  for (const fs::path& path : FilesOf(state_dir_, ".tmp")) unlink(path.c_str());  // never finished
  const auto note_key = [&](StoredSession stored) {
    {
      MutexLock lock(mu_);
      next_key_ = std::max(next_key_, stored.key + 1);
    }
    session(std::move(stored));
  };
  return log_ != nullptr ? RecoverLog(note_key, problem) : RecoverFiles(note_key, problem);
}

// Without a log there is one file for each session that was parked on disk when the server ended.
absl::Status StateStore::RecoverFiles(const std::function<void(StoredSession)>& session,
                                      const std::function<void(std::string)>& problem) {
  for (const fs::path& path : FilesOf(state_dir_, kStateSuffix)) {
    const std::vector<std::string> parts = absl::StrSplit(path.stem().string(), '-');
    StoredSession stored{.state_file = path.string()};
    absl::StatusOr<SessionFileHeader> header = ReadSessionHeader(stored.state_file, path.string());
    if (!absl::SimpleAtoi(parts.front(), &stored.key) || !header.ok()) {
      problem(header.ok() ? absl::StrCat(path.string(), ": its name has no number")
                          : std::string(header.status().message()));
      continue;
    }
    stored.has_state = header->state_bytes > 0;
    stored.record = std::move(header->record);
    session(std::move(stored));
  }
  return absl::OkStatus();
}

absl::Status StateStore::RecoverLog(const std::function<void(StoredSession)>& session,
                                    const std::function<void(std::string)>& problem) {
  std::set<std::string> used;
  std::vector<StoredSession> sessions;
  const auto take = [&](LoggedSession logged) {
    absl::StatusOr<SessionRecord> record = DecodeRecord(logged.record);
    bool has_state = false;
    if (!logged.state_file.empty() && record.ok()) {
      const absl::StatusOr<SessionFileHeader> header =
          ReadSessionHeader(logged.state_file, logged.state_file);
      if (!header.ok()) record = header.status();
      has_state = header.ok() && header->state_bytes > 0;
    }
    if (!record.ok()) {
      problem(
          absl::StrCat("session with key ", logged.key, " is lost: ", record.status().message()));
      return;
    }
    used.insert(logged.state_file);
    sessions.push_back({.record = *std::move(record),
                        .key = logged.key,
                        .state_file = std::move(logged.state_file),
                        .has_state = has_state,
                        .logged = logged.state_sequence,
                        .entries = std::move(logged.entries)});
  };
  RASQ_ASSIGN_OR_RETURN(const LogReport report, log_->Recover(take));
  for (const std::string& line : report.problems) problem(line);
  // Not before the log is through: who gets one may absorb, expire and log at once.
  for (StoredSession& stored : sessions) session(std::move(stored));
  // Files that the crash left before the log knew them, or after it had forgotten them.
  for (const fs::path& path : FilesOf(state_dir_, kStateSuffix)) {
    if (!used.contains(path.string())) unlink(path.c_str());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> StateStore::SnapshotPath(const ScopedName& name) const {
  if (snapshot_dir_.empty()) return NoSnapshotDirectory();
  RASQ_RETURN_IF_ERROR(CheckName("snapshot_id", name.id));
  return absl::StrCat(TenantDirectory(name.tenant), "/", name.id, kSnapshotSuffix);
}

std::string StateStore::TenantDirectory(const std::string& tenant) const {
  return absl::StrCat(snapshot_dir_, "/tenant-", tenant);
}

absl::Status StateStore::MakeSnapshotDirectory(const std::string& tenant,
                                               absl::string_view where) const {
  std::error_code error;
  fs::create_directories(TenantDirectory(tenant), error);
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat(where, ": the directory of snapshots cannot be written"));
}

absl::StatusOr<SnapshotPage> StateStore::ListSnapshots(const std::string& tenant, int32_t page_size,
                                                       const std::string& page_token) const {
  RASQ_RETURN_IF_ERROR(CheckRange("page_size", page_size, 0, kMaxPageSize));
  if (!page_token.empty()) RASQ_RETURN_IF_ERROR(CheckName("page_token", page_token));
  if (snapshot_dir_.empty()) return NoSnapshotDirectory();
  const size_t most = page_size == 0 ? kDefaultPageSize : page_size;
  SnapshotPage page;
  std::vector<std::string> ids;
  for (const fs::path& path : FilesOf(TenantDirectory(tenant), kSnapshotSuffix)) {
    std::string id(absl::StripSuffix(path.filename().string(), kSnapshotSuffix));
    if (id > page_token) ids.push_back(std::move(id));
  }
  std::sort(ids.begin(), ids.end());
  for (const std::string& id : ids) {
    if (page.snapshots.size() == most) {
      page.next_page_token = page.snapshots.back().id;
      break;
    }
    RASQ_ASSIGN_OR_RETURN(const std::string path, SnapshotPath({tenant, id}));
    const absl::StatusOr<SessionFileHeader> header = ReadSessionHeader(path, id);
    if (header.ok()) page.snapshots.push_back(SnapshotOf(id, *header));
  }
  return page;
}

absl::Status StateStore::DeleteSnapshot(const ScopedName& name) const {
  RASQ_ASSIGN_OR_RETURN(const std::string path, SnapshotPath(name));
  if (unlink(path.c_str()) == 0) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("snapshot_id=\"", name.id, "\": no such snapshot"));
}

}  // namespace rasq
