#include "engine/session_log_recovery.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace rasq {

absl::Status SessionLogRecovery::Run() {
  RASQ_RETURN_IF_ERROR(
      store_.Walk([this](LogRow row, absl::string_view value) { AddRow(row, value); },
                  [this](LogRow from, LogRow end) { AddUnreadable(from, end); }));
  FinishSession();
  return status_;
}

void SessionLogRecovery::AddRow(LogRow row, absl::string_view value) {
  if (!status_.ok()) return;
  if (row.key == kLogWrites) return AddWrite(row.sequence);
  if (!open_ || session_.key != row.key) {
    FinishSession();
    open_ = true;
    session_.key = row.key;
  }
  if (broken_) {
    if (row.sequence > 0) ++report_.dropped_entries;
    return;
  }
  AddToSession(row, value);
}

void SessionLogRecovery::AddWrite(int64_t number) {
  if (last_write_ > 0 && number > last_write_ + 1) {
    report_.problems.push_back(absl::StrCat(
        "writes ", last_write_ + 1, " to ", number - 1,
        " of the log are lost: sessions without a problem of their own may lack their last calls"));
  }
  last_write_ = number;
}

void SessionLogRecovery::AddToSession(LogRow row, absl::string_view value) {
  absl::Status status;
  if (row.sequence == 0) {
    auto read = DecodeLogSession(row, value);
    status = read.status();
    if (read.ok()) {
      has_record_ = true;
      session_.record = std::move(read->record);
      session_.state_file = std::move(read->state_file);
      session_.state_sequence = read->state_sequence;
    }
  } else if (!has_record_) {
    return Break(row, "the session's own row is missing");
  } else if (row.sequence <= session_.state_sequence) {
    return;  // in the state
  } else {
    const int64_t expected =
        session_.state_sequence + static_cast<int64_t>(session_.entries.size()) + 1;
    if (row.sequence != expected) {
      return Break(row, absl::StrCat("entries from sequence=", expected, " are missing before it"));
    }
    auto entry = DecodeLogEntry(row, value);
    status = entry.status();
    if (entry.ok()) session_.entries.push_back(*std::move(entry));
  }
  if (absl::IsFailedPrecondition(status)) {
    status_ = absl::FailedPreconditionError(absl::StrCat(
        "session log: key=", row.key, " sequence=", row.sequence, ": ", status.message()));
  } else if (!status.ok()) {
    Break(row, status.message());
  }
}

void SessionLogRecovery::AddUnreadable(LogRow from, LogRow end) {
  unreadable_ = true;
  // Whether the session went on in there is not known: it must be taken to have.
  if (open_ && !broken_) {
    Break(from, "the disk's block is corrupt");
    if (from.sequence > 0) --report_.dropped_entries;  // no row that was there
  }
  report_.problems.push_back(absl::StrCat("rows from key=", from.key, " sequence=", from.sequence,
                                          " to key=", end.key, " sequence=", end.sequence,
                                          " cannot be read: what they held is lost"));
}

void SessionLogRecovery::Break(LogRow row, absl::string_view what) {
  broken_ = true;
  if (row.sequence > 0) ++report_.dropped_entries;
  report_.problems.push_back(
      absl::StrCat("session key=", row.key, " sequence=", row.sequence, ": ", what,
                   has_record_ ? "; it is kept up to there" : "; none of it is kept"));
}

void SessionLogRecovery::FinishSession() {
  if (open_ && status_.ok()) {
    const auto entries = static_cast<int64_t>(session_.entries.size());
    if (broken_) {
      ++report_.damaged_sessions;
      session_.damaged = true;
      const int64_t kept = has_record_ ? session_.state_sequence + entries + 1 : 0;
      store_.Delete({session_.key, kept}, EndOfLogRows(session_.key));
    }
    if (has_record_) {
      ++report_.sessions;
      report_.entries += entries;
      hand_out_(std::exchange(session_, {}));
    }
  }
  session_ = {};
  open_ = has_record_ = broken_ = false;
}

}  // namespace rasq
