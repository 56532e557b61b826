// Files that tests write and read.
#pragma once

#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace rasq {

// A path of this process alone: ctest runs a test's cases at once, each in its own.
inline std::string TemporaryPath(const std::string& name) {
  return absl::StrCat(::testing::TempDir(), "rasq-", getpid(), "-", name);
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace rasq
