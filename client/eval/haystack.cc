#include "client/eval/haystack.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/eval/files.h"
#include "client/stream_generator.h"

namespace rasq::client {
namespace {

constexpr absl::string_view kDocumentMark = "@@@DOC\t";
constexpr int64_t kMadeUpBytes = 1 << 20;

void AppendDocument(absl::string_view document, std::string& text) {
  if (!document.empty()) absl::StrAppend(&text, "\n", absl::StripAsciiWhitespace(document), "\n");
}

void AppendDocuments(absl::string_view file, tasks::Split split, bool all_documents,
                     std::string& text) {
  while (!file.empty()) {
    const absl::string_view head = file.substr(0, file.find('\n'));
    const absl::string_view fields = head.substr(kDocumentMark.size());
    file.remove_prefix(std::min(head.size() + 1, file.size()));
    size_t end =
        absl::StartsWith(file, kDocumentMark) ? 0 : file.find(absl::StrCat("\n", kDocumentMark));
    end = end == absl::string_view::npos ? file.size() : end == 0 ? 0 : end + 1;
    if (all_documents || tasks::InSplit(split, fields.substr(0, fields.find('\t')))) {
      AppendDocument(file.substr(0, end), text);
    }
    file.remove_prefix(end);
  }
}

}  // namespace

absl::StatusOr<Haystack> Haystack::Load(const std::vector<std::string>& paths, tasks::Split split,
                                        bool all_documents) {
  std::string text;
  for (const std::string& path : paths) {
    const absl::StatusOr<std::string> file = ReadTextFile(path);
    if (!file.ok()) return file.status();
    if (absl::StartsWith(*file, kDocumentMark)) {
      AppendDocuments(*file, split, all_documents, text);
    } else {
      AppendDocument(*file, text);
    }
  }
  if (absl::StripAsciiWhitespace(text).empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(absl::StrJoin(paths, ", "), ": no text of the split"));
  }
  return Haystack(std::move(text));
}

Haystack Haystack::MadeUp() {
  // So few facts that none is due.
  return Haystack(
      StreamGenerator(/*seed=*/1, /*bytes_per_fact=*/int64_t{1} << 60).Next(kMadeUpBytes));
}

Haystack Haystack::FromText(std::string text) { return Haystack(std::move(text)); }

Haystack Haystack::FromLines(const std::vector<std::string>& lines) {
  Haystack haystack(absl::StrCat("\n", absl::StrJoin(lines, "\n")));
  haystack.whole_lines_ = true;
  return haystack;
}

Haystack::Haystack(std::string text) : text_(std::move(text)) {
  if (text_.empty() || !absl::ascii_isspace(text_.front())) text_.insert(0, "\n");
}

std::string Haystack::Describe() const {
  uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a
  for (const char c : text_) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  return absl::StrFormat("%d bytes, fnv1a %016x", text_.size(), hash);
}

Haystack::Cursor::Cursor(const Haystack* haystack, int64_t from)
    : text_(haystack->text_),
      whole_lines_(haystack->whole_lines_),
      at_(NextCut(static_cast<size_t>(from))) {
  if (at_ == text_.size()) at_ = 0;
}

size_t Haystack::Cursor::NextCut(size_t from) const {
  if (whole_lines_) return std::min(text_.find('\n', from), text_.size());
  // Not inside a run of whitespace: tokens may span it.
  while (from < text_.size() && !(absl::ascii_isspace(text_[from]) &&
                                  (from == 0 || !absl::ascii_isspace(text_[from - 1])))) {
    ++from;
  }
  return from;
}

absl::string_view Haystack::Cursor::Take(int64_t bytes) {
  const size_t begin = at_;
  const size_t end = NextCut(std::min(begin + static_cast<size_t>(bytes), text_.size()));
  at_ = end == text_.size() ? 0 : end;
  return absl::string_view(text_).substr(begin, end - begin);
}

}  // namespace rasq::client
