#include "engine/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/json_reader.h"
#include "kernels/base/dtype.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little endian");

constexpr int64_t kPrefixBytes = 8;
constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxRank = 8;

struct TypeInfo {
  absl::string_view name;
  FileDType type;
  int64_t bytes;
};
constexpr TypeInfo kTypes[] = {{"F32", FileDType::kFloat32, 4},
                               {"F16", FileDType::kFloat16, 2},
                               {"BF16", FileDType::kBfloat16, 2},
                               {"I32", FileDType::kInt32, 4},
                               {"I64", FileDType::kInt64, 8}};

// IEEE 754 binary16. Its subnormals are multiples of 2^-24, which float32 holds exactly.
float HalfToFloat(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t exponent = (half >> 10) & 0x1f;
  const uint32_t fraction = half & 0x3ff;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t wide_exponent = exponent == 0x1f ? 0xff : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (wide_exponent << 23) | (fraction << 13));
}

// Reads elements of type T, at any alignment, as `convert` makes them.
template <typename T, typename Out, typename Convert>
std::vector<Out> ReadAll(absl::Span<const std::byte> data, Convert convert) {
  std::vector<Out> values(data.size() / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T element;
    std::memcpy(&element, data.data() + i * sizeof(T), sizeof(T));
    values[i] = convert(element);
  }
  return values;
}

// One entry of the header. Its range is checked against `data`, the bytes after the header.
absl::StatusOr<TensorView> ParseTensor(const Json& entry, absl::Span<const std::byte> data,
                                       absl::string_view where) {
  FieldReader fields(entry, where);
  const std::string type_name = fields.String("dtype");
  const Json none = Json::array();
  const Json* shape = fields.Find("shape");
  const Json* offsets = fields.Find("data_offsets");
  RASQ_RETURN_IF_ERROR(fields.status());
  if (shape == nullptr || !shape->is_array() || shape->size() > kMaxRank) {
    fields.Bad("shape", shape != nullptr ? *shape : none,
               absl::StrCat("a list of at most ", kMaxRank, " dimensions"));
    return fields.status();
  }
  if (offsets == nullptr || !offsets->is_array() || offsets->size() != 2) {
    fields.Bad("data_offsets", offsets != nullptr ? *offsets : none, "a pair of offsets");
    return fields.status();
  }
  const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                  [&](const TypeInfo& t) { return t.name == type_name; });
  if (type == std::end(kTypes)) {
    fields.Unsupported("dtype", type_name, "only F32, F16, BF16, I32 and I64 are supported");
    return fields.status();
  }

  TensorView tensor{.dtype = type->type, .shape = {}, .data = {}};
  int64_t bytes = type->bytes;
  for (const Json& item : *shape) {
    const std::optional<int64_t> dim = FieldReader::AsInt(item);
    if (!dim || *dim < 0 || __builtin_mul_overflow(bytes, *dim, &bytes)) {
      fields.Bad("shape", item, "a dimension that a file can hold");
      return fields.status();
    }
    tensor.shape.push_back(*dim);
  }
  const std::optional<int64_t> begin = FieldReader::AsInt((*offsets)[0]);
  const std::optional<int64_t> end = FieldReader::AsInt((*offsets)[1]);
  const auto data_bytes = static_cast<int64_t>(data.size());
  if (!begin || !end || *begin < 0 || *begin > *end || *end > data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        where, ": data_offsets=[", ShowJson((*offsets)[0]), ", ", ShowJson((*offsets)[1]),
        "] is not a range of the file's ", data_bytes, " data bytes"));
  }
  if (*end - *begin != bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        where, ": data_offsets give bytes=", *end - *begin, ", its shape and dtype ", bytes));
  }
  tensor.data = data.subspan(static_cast<size_t>(*begin), static_cast<size_t>(bytes));
  return tensor;
}

// The ranges must tile the data: the format allows neither overlap nor holes.
absl::Status CheckTiling(const std::map<std::string, TensorView>& tensors,
                         absl::Span<const std::byte> data, absl::string_view name) {
  std::vector<std::pair<absl::Span<const std::byte>, absl::string_view>> ranges;
  for (const auto& [tensor_name, tensor] : tensors) {
    if (!tensor.data.empty()) ranges.emplace_back(tensor.data, tensor_name);
  }
  std::sort(ranges.begin(), ranges.end(),
            [](const auto& a, const auto& b) { return a.first.data() < b.first.data(); });
  const std::byte* expected = data.data();
  for (const auto& [range, tensor_name] : ranges) {
    if (range.data() != expected) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": tensor=", tensor_name,
                                                     range.data() < expected
                                                         ? ": overlaps the one before it"
                                                         : ": bytes before it are unused"));
    }
    expected = range.data() + range.size();
  }
  if (expected != data.data() + data.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": trailing bytes=", data.data() + data.size() - expected));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t TensorView::num_elements() const {
  int64_t product = 1;
  for (const int64_t dim : shape) product *= dim;
  return product;
}

absl::StatusOr<std::vector<float>> TensorView::ToFloats() const {
  switch (dtype) {
    case FileDType::kFloat32:
      return ReadAll<float, float>(data, [](float x) { return x; });
    case FileDType::kFloat16:
      return ReadAll<uint16_t, float>(data, HalfToFloat);
    case FileDType::kBfloat16:
      return ReadAll<bfloat16, float>(data, [](bfloat16 x) { return ToFloat(x); });
    case FileDType::kInt32:
    case FileDType::kInt64:
      break;
  }
  return absl::InvalidArgumentError("elements are integers, not floats");
}

absl::StatusOr<std::vector<int32_t>> TensorView::ToInts() const {
  if (dtype != FileDType::kInt32) return absl::InvalidArgumentError("elements are not int32");
  return ReadAll<int32_t, int32_t>(data, [](int32_t x) { return x; });
}

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Parse(
    absl::Span<const std::byte> bytes, absl::string_view name) {
  const auto file_bytes = static_cast<int64_t>(bytes.size());
  if (file_bytes < kPrefixBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": bytes=", file_bytes, " is less than a header's length"));
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  if (header_bytes > static_cast<uint64_t>(std::min(file_bytes - kPrefixBytes, kMaxHeaderBytes))) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": header length=", header_bytes, " does not fit a file of ", file_bytes, " bytes"));
  }
  const absl::string_view header(reinterpret_cast<const char*>(bytes.data()) + kPrefixBytes,
                                 header_bytes);
  const absl::Span<const std::byte> data = bytes.subspan(kPrefixBytes + header_bytes);
  const std::string where = absl::StrCat(name, ": header");
  RASQ_ASSIGN_OR_RETURN(const Json json, ParseJson(header, where));
  if (!json.is_object()) return absl::InvalidArgumentError(absl::StrCat(where, ": not an object"));

  auto file = std::unique_ptr<SafetensorsFile>(new SafetensorsFile);
  for (const auto& [tensor_name, entry] : json.items()) {
    if (tensor_name == "__metadata__") continue;
    RASQ_ASSIGN_OR_RETURN(TensorView tensor,
                          ParseTensor(entry, data, absl::StrCat(name, ": tensor=", tensor_name)));
    file->tensors_.emplace(tensor_name, std::move(tensor));
  }
  RASQ_RETURN_IF_ERROR(CheckTiling(file->tensors_, data, name));
  return file;
}

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  struct stat info;
  // Looked at before it is opened: to open a pipe would wait for its writer.
  if (stat(path.c_str(), &info) != 0) return absl::NotFoundError(absl::StrCat(path, ": not found"));
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return absl::UnavailableError(absl::StrCat(path, ": open: ", std::strerror(errno)));
  }
  void* mapping = nullptr;
  size_t mapping_bytes = 0;
  if (fstat(fd, &info) == 0 && info.st_size > 0) {
    mapping_bytes = static_cast<size_t>(info.st_size);
    mapping = mmap(nullptr, mapping_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  }
  close(fd);
  if (mapping == MAP_FAILED) {
    return absl::UnavailableError(absl::StrCat(path, ": mmap: ", std::strerror(errno)));
  }
  auto file = Parse({static_cast<const std::byte*>(mapping), mapping_bytes}, path);
  if (!file.ok()) {
    if (mapping != nullptr) munmap(mapping, mapping_bytes);
    return file.status();
  }
  (*file)->mapping_ = mapping;
  (*file)->mapping_bytes_ = mapping_bytes;
  return file;
}

SafetensorsFile::~SafetensorsFile() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_bytes_);
}

}  // namespace rasq
