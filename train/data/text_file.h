// Files of text, plain or compressed, and the documents in them.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/tasks/episode.h"

namespace rasq::train {

// The whole file; decompressed if its name ends in .xz. kNotFound if it cannot be opened,
// kDataLoss if it is not what its name says.
absl::StatusOr<std::string> ReadText(const std::string& path);

struct Document {
  std::string id;
  std::string text;
};

// The documents of a text: each begins with a line "@@@DOC<tab>id<tab>title" (the title is left
// out). A text without such lines is one document with the file's name as its id.
std::vector<Document> SplitDocuments(absl::string_view text, absl::string_view path);

using tasks::InSplit;

}  // namespace rasq::train
