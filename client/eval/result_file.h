// The output file of an evaluation, which a later run goes on with.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/eval/results.h"

namespace rasq::client {

class ResultFile {
 public:
  // Reads what is there, drops what stands behind the last finished stream, and adds the header.
  // kFailedPrecondition names the setting in which an older run of the file differs, or the file
  // if another run has it open.
  static absl::StatusOr<ResultFile> Open(const std::string& path, const RunHeader& header);
  ResultFile(ResultFile&& other) noexcept;
  ~ResultFile();

  const Results& results() const { return results_; }
  bool Has(const StreamKey& key) const;
  // Writes one finished stream.
  absl::Status Add(const StreamResult& stream, const std::vector<QuestionResult>& questions);

 private:
  ResultFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  absl::Status Write(const std::string& lines);

  std::string path_;
  int fd_;
  Results results_;
};

}  // namespace rasq::client
