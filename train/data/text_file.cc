#include "train/data/text_file.h"

#include <lzma.h>

#include <cstdint>
#include <cstdio>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace rasq::train {
namespace {

constexpr size_t kBufferBytes = 1 << 20;
constexpr absl::string_view kDocumentMark = "@@@DOC\t";

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

class Decoder {
 public:
  ~Decoder() { lzma_end(&stream_); }

  bool Begin() {
    return lzma_stream_decoder(&stream_, /*memlimit=*/UINT64_MAX, LZMA_CONCATENATED) == LZMA_OK;
  }
  // Appends what `input` decodes to. `end`: nothing follows.
  bool Decode(absl::string_view input, bool end, std::string& text) {
    stream_.next_in = reinterpret_cast<const uint8_t*>(input.data());
    stream_.avail_in = input.size();
    lzma_ret result = LZMA_OK;
    while (result == LZMA_OK && (stream_.avail_in > 0 || end)) {
      stream_.next_out = buffer_.get();
      stream_.avail_out = kBufferBytes;
      result = lzma_code(&stream_, end ? LZMA_FINISH : LZMA_RUN);
      text.append(reinterpret_cast<const char*>(buffer_.get()), kBufferBytes - stream_.avail_out);
    }
    return end ? result == LZMA_STREAM_END : result == LZMA_OK || result == LZMA_STREAM_END;
  }

 private:
  lzma_stream stream_ = LZMA_STREAM_INIT;
  const std::unique_ptr<uint8_t[]> buffer_ = std::make_unique<uint8_t[]>(kBufferBytes);
};

}  // namespace

absl::StatusOr<std::string> ReadText(const std::string& path) {
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "rb"));
  if (file == nullptr) return absl::NotFoundError(absl::StrCat(path, ": cannot be opened"));
  const bool compressed = absl::EndsWith(path, ".xz");
  Decoder decoder;
  if (compressed && !decoder.Begin()) {
    return absl::ResourceExhaustedError(absl::StrCat(path, ": no memory for its decoder"));
  }
  std::string text, input(kBufferBytes, '\0');
  bool end = false;
  while (!end) {
    const size_t size = std::fread(input.data(), 1, input.size(), file.get());
    if (std::ferror(file.get()) != 0)
      return absl::DataLossError(absl::StrCat(path, ": unreadable"));
    end = size < input.size();
    const absl::string_view read = absl::string_view(input).substr(0, size);
    if (!compressed) {
      absl::StrAppend(&text, read);
    } else if (!decoder.Decode(read, end, text)) {
      return absl::DataLossError(absl::StrCat(path, ": not a whole xz file"));
    }
  }
  return text;
}

std::vector<Document> SplitDocuments(absl::string_view text, absl::string_view path) {
  std::vector<Document> documents;
  if (!absl::StartsWith(text, kDocumentMark)) {
    documents.push_back(
        {.id = std::string(path.substr(path.rfind('/') + 1)), .text = std::string(text)});
    return documents;
  }
  while (!text.empty()) {
    const size_t line_end = text.find('\n');
    const absl::string_view head =
        text.substr(kDocumentMark.size(), line_end - kDocumentMark.size());
    text.remove_prefix(line_end == absl::string_view::npos ? text.size() : line_end + 1);
    size_t end =
        absl::StartsWith(text, kDocumentMark) ? 0 : text.find(absl::StrCat("\n", kDocumentMark));
    end = end == absl::string_view::npos ? text.size() : end == 0 ? 0 : end + 1;
    const std::vector<absl::string_view> fields = absl::StrSplit(head, absl::MaxSplits('\t', 1));
    documents.push_back({.id = std::string(fields[0]), .text = std::string(text.substr(0, end))});
    text.remove_prefix(end);
  }
  return documents;
}

}  // namespace rasq::train
