// The text between facts: real text from files, made-up prose, or lines; read from any place on,
// around its end, in pieces that are cut before whitespace, or between lines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/tasks/episode.h"

namespace rasq::client {

class Haystack {
 public:
  // Plain text in UTF-8. Of a file whose documents begin with lines "@@@DOC<tab>id<tab>title" the
  // documents of the split are taken, or all of them; of other files everything. Errors name the
  // file; kInvalidArgument if it is compressed, is not UTF-8, or nothing is left.
  static absl::StatusOr<Haystack> Load(const std::vector<std::string>& paths, tasks::Split split,
                                       bool all_documents);
  // Prose about nothing, for where no real text is at hand.
  static Haystack MadeUp();
  static Haystack FromText(std::string text);
  // Lines without breaks in them, at least one, that are told whole, each behind a line break.
  static Haystack FromLines(const std::vector<std::string>& lines);

  int64_t bytes() const { return static_cast<int64_t>(text_.size()); }
  // Size and a checksum: which text it was.
  std::string Describe() const;

  // Reads on from where it stopped. Borrows the haystack.
  class Cursor {
   public:
    // From the first whitespace, or line, at or behind a byte on.
    Cursor(const Haystack* haystack, int64_t from);
    // At least `bytes` > 0 of text, up to before the next whitespace, or line; less at the text's
    // end.
    absl::string_view Take(int64_t bytes);

   private:
    size_t NextCut(size_t from) const;  // the first place from there on where text may be cut

    const std::string& text_;
    const bool whole_lines_;
    size_t at_;
  };

 private:
  explicit Haystack(std::string text);

  std::string text_;  // begins with whitespace, so that its begin may follow its end
  bool whole_lines_ = false;
};

}  // namespace rasq::client
