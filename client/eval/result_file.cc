#include "client/eval/result_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace rasq::client {
namespace {

absl::StatusOr<std::string> ReadAll(int fd, const std::string& path) {
  std::string text;
  char bytes[1 << 16];
  for (;;) {
    const ssize_t count = read(fd, bytes, sizeof(bytes));
    if (count < 0) return absl::ErrnoToStatus(errno, path);
    if (count == 0) return text;
    text.append(bytes, count);
  }
}

// Up to the last line that ends a stream or tells of a run: a run that was killed may have left
// questions of a stream without its end, or half a line.
size_t FinishedBytes(absl::string_view text) {
  size_t finished = 0;
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != absl::string_view::npos;
       begin = end + 1) {
    const absl::string_view line = text.substr(begin, end - begin);
    if (absl::StartsWith(line, R"({"type":"stream")") ||
        absl::StartsWith(line, R"({"type":"run")")) {
      finished = end + 1;
    }
  }
  return finished;
}

// A line. What a model, a server or a command line says need not be UTF-8 to the last byte.
std::string Dump(const Json& json) {
  return json.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

absl::Status CheckSame(const RunHeader& old, const RunHeader& now, const std::string& path) {
  const auto check = [&](const Json& a, const Json& b, absl::string_view name) {
    return a == b ? absl::OkStatus()
                  : absl::FailedPreconditionError(absl::StrCat(path, ": its results are of ", name,
                                                               "=", Dump(a), ", not ", Dump(b)));
  };
  const Json a = ToJson(old), b = ToJson(now);
  std::vector<const char*> names = {"seed", "split", "facts",    "questions", "along",
                                    "text", "babi",  "passages", "ruler"};
  // A label means the same in all of a file, which others may have written.
  bool same_server = old.server_flags == now.server_flags;
  for (size_t i = 0; i < std::min(old.settings.size(), old.session_options.size()); ++i) {
    for (size_t j = 0; j < now.settings.size(); ++j) {
      if (old.settings[i] != now.settings[j]) continue;
      same_server = true;
      absl::Status status = check(Json(old.session_options[i]), Json(now.session_options[j]),
                                  absl::StrCat("session options ", now.settings[j]));
      if (!status.ok()) return status;
    }
  }
  if (same_server) {
    names.insert(names.end(), {"fingerprint", "dtype", "entry_type", "capacity_tokens"});
  }
  for (const char* name : names) {
    if (absl::Status status = check(a[name], b[name], name); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ResultFile> ResultFile::Open(const std::string& path, const RunHeader& header) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return absl::ErrnoToStatus(errno, path);
  ResultFile file(path, fd);
  // Two runs would write into each other's lines.
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return absl::ErrnoToStatus(errno, path);
    return absl::FailedPreconditionError(absl::StrCat(path, ": another run is writing to it"));
  }
  absl::StatusOr<std::string> text = ReadAll(fd, path);
  if (!text.ok()) return text.status();
  text->resize(FinishedBytes(*text));
  absl::StatusOr<Results> results = ParseResults(*text, path);
  if (!results.ok()) return results.status();
  for (const RunHeader& old : results->runs) {
    if (absl::Status status = CheckSame(old, header, path); !status.ok()) return status;
  }
  if (ftruncate(fd, static_cast<off_t>(text->size())) != 0 || lseek(fd, 0, SEEK_END) < 0) {
    return absl::ErrnoToStatus(errno, path);
  }
  file.results_ = *std::move(results);
  file.results_.runs.push_back(header);
  absl::Status status = file.Write(Dump(ToJson(header)) + "\n");
  if (!status.ok()) return status;
  return file;
}

ResultFile::ResultFile(ResultFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      results_(std::move(other.results_)) {}

ResultFile::~ResultFile() {
  if (fd_ >= 0) close(fd_);
}

bool ResultFile::Has(const StreamKey& key) const {
  return std::any_of(results_.streams.begin(), results_.streams.end(),
                     [&](const StreamResult& stream) { return stream.key == key; });
}

absl::Status ResultFile::Add(const StreamResult& stream,
                             const std::vector<QuestionResult>& questions) {
  std::string lines;
  for (const QuestionResult& question : questions) {
    absl::StrAppend(&lines, Dump(ToJson(question)), "\n");
  }
  absl::StrAppend(&lines, Dump(ToJson(stream)), "\n");
  if (absl::Status status = Write(lines); !status.ok()) return status;
  results_.streams.push_back(stream);
  results_.questions.insert(results_.questions.end(), questions.begin(), questions.end());
  return absl::OkStatus();
}

absl::Status ResultFile::Write(const std::string& lines) {
  for (size_t done = 0; done < lines.size();) {
    const ssize_t count = write(fd_, lines.data() + done, lines.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return absl::ErrnoToStatus(errno, path_);
    done += count;
  }
  return absl::OkStatus();
}

}  // namespace rasq::client
