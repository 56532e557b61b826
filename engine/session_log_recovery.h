// Puts the sessions of a log together from its rows, finds what damage took from them, and removes
// what stands beyond it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/session_log.h"
#include "engine/session_log_format.h"
#include "engine/session_log_store.h"

namespace rasq {

class SessionLogRecovery {
 public:
  // Both must outlive it.
  SessionLogRecovery(SessionLogStore* store, const std::function<void(LoggedSession)>* session)
      : store_(*store), hand_out_(*session) {}

  // Walks over all of the store. What is to be removed is pending in it afterwards.
  absl::Status Run();

  LogReport& report() { return report_; }
  bool unreadable() const { return unreadable_; }  // blocks of files were
  int64_t last_write() const { return last_write_; }

 private:
  void AddRow(LogRow row, absl::string_view value);
  void AddWrite(int64_t number);
  void AddToSession(LogRow row, absl::string_view value);
  void AddUnreadable(LogRow from, LogRow end);
  void Break(LogRow row, absl::string_view what);
  void FinishSession();

  SessionLogStore& store_;
  const std::function<void(LoggedSession)>& hand_out_;
  LogReport report_;
  absl::Status status_;  // kFailedPrecondition once a row of a newer version was met
  bool unreadable_ = false;
  int64_t last_write_ = 0;

  // The session that the last row was of.
  bool open_ = false;
  bool has_record_ = false;
  bool broken_ = false;  // nothing more of it counts
  LoggedSession session_;
};

}  // namespace rasq
