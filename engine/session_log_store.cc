#include "engine/session_log_store.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/numeric/int128.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

namespace fs = std::filesystem;

// Two of these are the memory that the store needs, and bound the log that a start reads again.
constexpr size_t kWriteBufferBytes = size_t{16} << 20;
constexpr uint64_t kDaySeconds = 86'400;
constexpr size_t kReadAheadBytes = size_t{1} << 20;
constexpr size_t kCopyBytes = size_t{4} << 20;  // of one write of Rewrite

rocksdb::Slice AsSlice(absl::string_view bytes) { return {bytes.data(), bytes.size()}; }
absl::string_view AsView(const rocksdb::Slice& bytes) { return {bytes.data(), bytes.size()}; }

absl::Status ToStatus(const rocksdb::Status& status, const std::string& directory) {
  if (status.ok()) return absl::OkStatus();
  const std::string text = status.ToString();
  const std::string where = absl::StrCat("session log directory=", directory, ": ");
  if (status.IsNoSpace()) {
    return absl::ResourceExhaustedError(
        absl::StrCat(where, "the disk is full; free some space: ", text));
  }
  if (status.IsCorruption()) {
    return absl::DataLossError(absl::StrCat(
        where,
        "cannot be read; bring it back from a backup, or move it away to start without its "
        "sessions: ",
        text));
  }
  if (absl::StrContains(text, "While lock file") || absl::StrContains(text, "lock hold by")) {
    return absl::FailedPreconditionError(absl::StrCat(
        where, "another process holds it; stop that one or name another directory: ", text));
  }
  return absl::UnavailableError(
      absl::StrCat(where, "the disk refuses; check it, its mount and its permissions: ", text));
}

rocksdb::ColumnFamilyOptions FamilyOptions(bool compaction) {
  rocksdb::ColumnFamilyOptions options;
  options.write_buffer_size = kWriteBufferBytes;
  options.max_write_buffer_number = 2;
  options.compression = rocksdb::kNoCompression;  // most of it is soon forgotten
  options.disable_auto_compactions = !compaction;
  options.ttl = kDaySeconds;  // what was forgotten leaves the files by then
  rocksdb::BlockBasedTableOptions table;
  table.no_block_cache = true;  // rows are read once, at start
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

rocksdb::DBOptions DatabaseOptions() {
  rocksdb::DBOptions options;
  options.create_if_missing = true;
  // The other modes stop at the first bad record, with an error or without, and so give up the good
  // records of all sessions behind it. Here they are read, and the gaps show in the rows' numbers.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kSkipAnyCorruptedRecords;
  options.max_total_wal_size = 2 * kWriteBufferBytes;
  options.max_background_jobs = 2;
  options.max_manifest_file_size = uint64_t{1} << 20;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.max_log_file_size = size_t{1} << 20;
  options.keep_log_file_num = 2;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  return options;
}

// The rows live in a column family of this name: the first of them that there is. A later one is a
// copy that Rewrite did not finish.
std::string FamilyName(int64_t generation) { return absl::StrFormat("log-%010d", generation); }
bool ParseFamilyName(absl::string_view name, int64_t* generation) {
  return absl::ConsumePrefix(&name, "log-") && absl::SimpleAtoi(name, generation);
}

absl::uint128 ToPlace(LogRow row) {
  const uint64_t sign = uint64_t{1} << 63;
  return absl::MakeUint128(static_cast<uint64_t>(row.key) ^ sign,
                           static_cast<uint64_t>(row.sequence));
}

LogRow ToRow(absl::uint128 place) {
  const uint64_t sign = uint64_t{1} << 63;
  return {.key = static_cast<int64_t>(absl::Uint128High64(place) ^ sign),
          .sequence = static_cast<int64_t>(std::min(absl::Uint128Low64(place), sign - 1))};
}

// The first place behind `bad` where the iterator can read, and stands afterwards. Doubles its
// steps until it is across the corrupt block, then halves the way back to that block's end.
std::optional<absl::uint128> SkipCorruption(rocksdb::Iterator& rows, absl::uint128 bad) {
  const auto readable = [&](absl::uint128 place) {
    rows.Seek(EncodeLogRow(ToRow(place)));
    return rows.status().ok();
  };
  absl::uint128 good = bad;
  for (absl::uint128 step = 1;; step <<= 1) {
    if (step == 0 || good > absl::Uint128Max() - step) return std::nullopt;
    good += step;
    if (readable(good)) break;
    bad = good;
  }
  while (good - bad > 1) {
    const absl::uint128 middle = bad + (good - bad) / 2;
    (readable(middle) ? good : bad) = middle;
  }
  readable(good);
  return good;
}

}  // namespace

struct SessionLogStore::Impl {
  std::string directory;
  std::unique_ptr<rocksdb::DB> db;  // null: closed, for it could not be opened again
  rocksdb::ColumnFamilyHandle* family = nullptr;
  int64_t generation = 0;  // of `family`
  bool cut_off = false;
  rocksdb::WriteBatch pending;

  ~Impl() { Close(); }

  void Close() {
    if (family != nullptr) db->DestroyColumnFamilyHandle(std::exchange(family, nullptr));
    db.reset();
  }
  absl::Status Status(const rocksdb::Status& status) const { return ToStatus(status, directory); }
  absl::Status OpenDatabase(bool compaction);
  absl::Status DropFamily(rocksdb::ColumnFamilyHandle* handle) const {
    const rocksdb::Status dropped = db->DropColumnFamily(handle);
    db->DestroyColumnFamilyHandle(handle);
    return Status(dropped);
  }
  std::unique_ptr<rocksdb::Iterator> NewIterator() const {
    rocksdb::ReadOptions options;
    options.readahead_size = kReadAheadBytes;
    options.fill_cache = false;
    return std::unique_ptr<rocksdb::Iterator>(db->NewIterator(options, family));
  }
};

absl::Status SessionLogStore::Impl::OpenDatabase(bool compaction) {
  const rocksdb::DBOptions options = DatabaseOptions();
  std::vector<std::string> names;
  const rocksdb::Status listed = rocksdb::DB::ListColumnFamilies(options, directory, &names);
  if (!listed.ok()) {
    if (!listed.IsPathNotFound() && !listed.IsNotFound()) return Status(listed);
    // Where data stands without its manifest, RocksDB would begin anew and remove it.
    std::error_code error;
    for (const auto& file : fs::directory_iterator(directory, error)) {
      if (file.path().extension() == ".sst" || file.path().extension() == ".log") {
        return Status(rocksdb::Status::Corruption("data without a manifest"));
      }
    }
    names = {rocksdb::kDefaultColumnFamilyName};
  }
  std::sort(names.begin(), names.end());  // "default" comes before all of ours
  if (names.size() > 1 && !ParseFamilyName(names[1], &generation)) {
    return Status(rocksdb::Status::Corruption("not a session log: column family " + names[1]));
  }
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  families.reserve(names.size());
  for (const std::string& name : names) families.emplace_back(name, FamilyOptions(compaction));
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* opened = nullptr;
  rocksdb::Status status = rocksdb::DB::Open(options, directory, families, &handles, &opened);
  if (status.IsCorruption()) {
    // Some damage version 7.8 cannot skip, and then it opens nothing. It can stop there instead.
    rocksdb::DBOptions until_damage = options;
    until_damage.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
    status = rocksdb::DB::Open(until_damage, directory, families, &handles, &opened);
    cut_off |= status.ok();
  }
  RASQ_RETURN_IF_ERROR(Status(status));
  db.reset(opened);
  db->DestroyColumnFamilyHandle(handles[0]);
  if (handles.size() == 1) {
    generation = 1;
    RASQ_RETURN_IF_ERROR(
        Status(db->CreateColumnFamily(FamilyOptions(compaction), FamilyName(generation), &family)));
  } else {
    family = handles[1];
  }
  absl::Status dropped;
  for (size_t i = 2; i < handles.size(); ++i) dropped.Update(DropFamily(handles[i]));
  return dropped;
}

SessionLogStore::SessionLogStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
bool SessionLogStore::cut_off() const { return impl_->cut_off; }

SessionLogStore::~SessionLogStore() = default;

absl::StatusOr<std::unique_ptr<SessionLogStore>> SessionLogStore::Open(
    const std::string& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat("session log directory=", directory, ": ", error.message()));
  }
  auto impl = std::make_unique<Impl>();
  impl->directory = directory;
  RASQ_RETURN_IF_ERROR(impl->OpenDatabase(/*compaction=*/false));
  // RocksDB syncs the names in the directory; the directory's own stands in its parent.
  std::unique_ptr<rocksdb::Directory> parent;
  const fs::path parent_path = fs::canonical(directory, error).parent_path();
  rocksdb::Status synced = rocksdb::Env::Default()->NewDirectory(parent_path.string(), &parent);
  if (synced.ok()) synced = parent->Fsync();
  RASQ_RETURN_IF_ERROR(ToStatus(synced, directory));
  return std::unique_ptr<SessionLogStore>(new SessionLogStore(std::move(impl)));
}

void SessionLogStore::Put(LogRow row, absl::string_view value) {
  RASQ_CHECK(impl_->pending.Put(impl_->family, EncodeLogRow(row), AsSlice(value)).ok());
}

void SessionLogStore::Delete(LogRow from, LogRow end) {
  RASQ_CHECK(impl_->pending.DeleteRange(impl_->family, EncodeLogRow(from), EncodeLogRow(end)).ok());
}

int64_t SessionLogStore::pending_bytes() const {
  return static_cast<int64_t>(impl_->pending.GetDataSize());
}

absl::Status SessionLogStore::Commit() {
  if (impl_->db == nullptr) return absl::UnavailableError("session log: closed");
  rocksdb::WriteOptions options;
  options.sync = true;
  RASQ_RETURN_IF_ERROR(impl_->Status(impl_->db->Write(options, &impl_->pending)));
  impl_->pending.Clear();
  return absl::OkStatus();
}

absl::Status SessionLogStore::Reopen() {
  impl_->Close();
  return impl_->OpenDatabase(/*compaction=*/true);
}

absl::Status SessionLogStore::Walk(
    const std::function<void(LogRow row, absl::string_view value)>& good,
    const std::function<void(LogRow from, LogRow end)>& unreadable) const {
  const auto rows = impl_->NewIterator();
  absl::uint128 next = 0;  // every row before it is through
  rows->SeekToFirst();
  while (true) {
    if (rows->Valid()) {
      const auto row = DecodeLogRow(AsView(rows->key()));
      if (!row) return impl_->Status(rocksdb::Status::Corruption("a row that is not of this log"));
      good(*row, AsView(rows->value()));
      next = ToPlace(*row) + 1;
      rows->Next();
    } else if (rows->status().ok()) {
      return absl::OkStatus();
    } else if (!rows->status().IsCorruption()) {
      return impl_->Status(rows->status());  // it may be readable another time
    } else {
      const auto end = SkipCorruption(*rows, next);
      unreadable(ToRow(next), ToRow(end.value_or(absl::Uint128Max())));
      if (!end) return absl::OkStatus();
      next = *end;
    }
  }
}

absl::Status SessionLogStore::Rewrite() {
  rocksdb::ColumnFamilyHandle* copy = nullptr;
  const std::string name = FamilyName(impl_->generation + 1);
  RASQ_RETURN_IF_ERROR(impl_->Status(
      impl_->db->CreateColumnFamily(FamilyOptions(/*compaction=*/true), name, &copy)));
  absl::Status status;
  rocksdb::WriteBatch batch;
  const auto write = [&] {
    rocksdb::WriteOptions options;
    options.sync = true;
    status.Update(impl_->Status(impl_->db->Write(options, &batch)));
    batch.Clear();
  };
  status.Update(Walk(
      [&](LogRow row, absl::string_view value) {
        RASQ_CHECK(batch.Put(copy, EncodeLogRow(row), AsSlice(value)).ok());
        if (batch.GetDataSize() >= kCopyBytes && status.ok()) write();
      },
      [](LogRow, LogRow) {}));
  if (status.ok()) write();
  if (!status.ok()) {  // the next start drops the copy
    impl_->db->DestroyColumnFamilyHandle(copy);
    return status;
  }
  ++impl_->generation;
  return impl_->DropFamily(std::exchange(impl_->family, copy));
}

absl::Status SessionLogStore::StartCompaction() {
  return impl_->Status(impl_->db->EnableAutoCompaction({impl_->family}));
}

}  // namespace rasq
