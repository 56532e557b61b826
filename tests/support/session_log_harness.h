// What the tests of the session log share: entries that are told apart by a number, and logs in
// directories of their own.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/session_log.h"

namespace rasq::testing {

// Empty, of the running test, the same in a process that a death test starts.
std::string FreshLogDirectory();

LogEntry NumberedEntry(int number);
LogEntry LargeEntry(int number, int64_t embeddings);
int NumberOf(const LogEntry& entry);
std::vector<int> NumbersOf(const LoggedSession& session);

struct RecoveredLog {
  std::unique_ptr<SessionLog> log;
  LogReport report;
  std::map<int64_t, LoggedSession> sessions;
};
// Opens the log, which must succeed, and recovers it.
RecoveredLog RecoverLog(const std::string& directory);

// A number in a file that a killed process leaves whole.
void WriteNumber(const std::string& path, int64_t number);
int64_t ReadNumber(const std::string& path);

}  // namespace rasq::testing
