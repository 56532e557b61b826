#include "client/eval/files.h"

#include <cerrno>
#include <cstdio>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/utf8.h"

namespace rasq::client {
namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

// By the first bytes, whatever the file is called.
bool IsCompressed(absl::string_view bytes) {
  for (const absl::string_view magic :
       {absl::string_view("\xFD"
                          "7zXZ"),
        absl::string_view("\x1F\x8B"), absl::string_view("BZh"),
        absl::string_view("\x28\xB5\x2F\xFD"), absl::string_view("PK\x03\x04")}) {
    if (absl::StartsWith(bytes, magic)) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "rb"));
  if (file == nullptr) return absl::ErrnoToStatus(errno, path);
  Utf8Decoder decoder(Utf8Decoder::Invalid::kRefuse);
  const auto annotate = [&](const absl::Status& status) {
    return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
  };
  std::string text;
  char bytes[1 << 16];
  while (const size_t count = std::fread(bytes, 1, sizeof(bytes), file.get())) {
    const absl::string_view read(bytes, count);
    if (text.empty() && IsCompressed(read)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": is compressed; decompress it first (xz -dk, gunzip -k)"));
    }
    if (absl::Status status = decoder.Decode(read, &text); !status.ok()) return annotate(status);
  }
  if (std::ferror(file.get()) != 0) return absl::ErrnoToStatus(errno, path);
  if (absl::Status status = decoder.Finish(&text); !status.ok()) return annotate(status);
  return text;
}

}  // namespace rasq::client
