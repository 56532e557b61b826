// Reads safetensors files: eight bytes of header length, a JSON header that names each tensor's
// type, shape and byte range, then the bytes. The file is mapped, never trusted: every range is
// checked against the file and against the other ranges before it can be read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace rasq {

enum class FileDType : int8_t { kFloat32, kFloat16, kBfloat16, kInt32, kInt64 };

struct TensorView {
  FileDType dtype;
  std::vector<int64_t> shape;
  absl::Span<const std::byte> data;  // row-major, little endian; lives as long as its file

  int64_t num_elements() const;
  // The elements widened to float32; kInvalidArgument if they are integers.
  absl::StatusOr<std::vector<float>> ToFloats() const;
  // The elements as int32; kInvalidArgument if they are not kInt32.
  absl::StatusOr<std::vector<int32_t>> ToInts() const;
};

class SafetensorsFile {
 public:
  // Errors name the file and the fault.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(const std::string& path);
  // The same of bytes in memory (a fuzzer's); `name` stands for the path in errors.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Parse(absl::Span<const std::byte> bytes,
                                                                absl::string_view name);
  ~SafetensorsFile();

  const std::map<std::string, TensorView>& tensors() const { return tensors_; }

 private:
  SafetensorsFile() = default;
  std::map<std::string, TensorView> tensors_;
  void* mapping_ = nullptr;  // null if the bytes are the caller's
  size_t mapping_bytes_ = 0;
};

}  // namespace rasq
