#include "engine/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

namespace rasq {
namespace {

std::string File(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  std::string bytes(sizeof(size), '\0');
  std::memcpy(bytes.data(), &size, sizeof(size));
  return bytes + header + data;
}

absl::StatusOr<std::unique_ptr<SafetensorsFile>> Parse(const std::string& bytes) {
  return SafetensorsFile::Parse({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()},
                                "f.safetensors");
}

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

TEST(SafetensorsTest, ReadsEveryType) {
  // The header's length makes the data misaligned, as a file may.
  const std::string file =
      File(R"({"__metadata__": {"format": "pt"},
               "half": {"dtype": "F16", "shape": [7], "data_offsets": [0, 14]},
               "single": {"dtype": "F32", "shape": [2, 1], "data_offsets": [14, 22]},
               "brain": {"dtype": "BF16", "shape": [1], "data_offsets": [22, 24]},
               "int": {"dtype": "I32", "shape": [], "data_offsets": [24, 28]},
               "none": {"dtype": "I64", "shape": [3, 0], "data_offsets": [28, 28]}})",
           // 1, -2, least subnormal, least normal, greatest, infinity, NaN
           Bytes<uint16_t>({0x3C00, 0xC000, 0x0001, 0x0400, 0x7BFF, 0x7C00, 0x7E00}) +
               Bytes<float>({1.5f, -3}) + Bytes<uint16_t>({0x3FC0}) + Bytes<int32_t>({-7}));
  const auto parsed = Parse(file);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const auto& tensors = (*parsed)->tensors();
  ASSERT_EQ(tensors.size(), 5);
  std::vector<float> half = tensors.at("half").ToFloats().value();
  EXPECT_TRUE(std::isnan(half.back()));
  half.pop_back();
  EXPECT_EQ(half, (std::vector<float>{1, -2, 0x1p-24f, 0x1p-14f, 65504, INFINITY}));
  EXPECT_EQ(tensors.at("single").ToFloats().value(), (std::vector<float>{1.5f, -3}));
  EXPECT_EQ(tensors.at("single").shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(tensors.at("brain").ToFloats().value(), std::vector<float>{1.5f});
  EXPECT_EQ(tensors.at("int").ToInts().value(), std::vector<int32_t>{-7});
  EXPECT_EQ(tensors.at("int").num_elements(), 1);
  EXPECT_EQ(tensors.at("none").num_elements(), 0);
  EXPECT_FALSE(tensors.at("int").ToFloats().ok());
  EXPECT_FALSE(tensors.at("single").ToInts().ok());
}

struct Fault {
  const char* name;
  const char* header;
  size_t data_bytes;
  const char* error;  // part of the message
};
void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

class SafetensorsFaultTest : public testing::TestWithParam<Fault> {};

TEST_P(SafetensorsFaultTest, IsNamed) {
  const auto parsed = Parse(File(GetParam().header, std::string(GetParam().data_bytes, 'x')));
  ASSERT_FALSE(parsed.ok());
  EXPECT_NE(parsed.status().message().find("f.safetensors: "), absl::string_view::npos);
  EXPECT_NE(parsed.status().message().find(GetParam().error), absl::string_view::npos)
      << parsed.status();
}

INSTANTIATE_TEST_SUITE_P(
    All, SafetensorsFaultTest,
    testing::Values(
        Fault{"NotJson", "{", 0, "not JSON"}, Fault{"NotAnObject", "[]", 0, "not an object"},
        Fault{"TensorNotAnObject", R"({"a": 1})", 0, "tensor=a: not an object"},
        Fault{"OutOfFile", R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", 7,
              "data_offsets=[0, 8]"},
        Fault{"Backwards", R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}})", 8,
              "data_offsets=[8, 4]"},
        Fault{"NegativeOffset", R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}})",
              8, "data_offsets=[-4, 0]"},
        Fault{"HugeOffset",
              R"({"a": {"dtype": "F32", "shape": [1],
                  "data_offsets": [18446744073709551612, 18446744073709551616]}})",
              8, "data_offsets=["},
        Fault{"FloatOffset", R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4.0]}})",
              4, "data_offsets=[0, 4.0]"},
        Fault{"ThreeOffsets", R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}})",
              8, "a pair of offsets"},
        Fault{"ShapeMismatch", R"({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}})",
              8, "bytes=8, its shape and dtype 12"},
        Fault{"ShapeOverflow",
              R"({"a": {"dtype": "F32", "shape": [4294967296, 4294967296],
                  "data_offsets": [0, 0]}})",
              0, "shape=4294967296"},
        Fault{"NegativeShape",
              R"({"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}})", 4,
              "shape=-1"},
        Fault{"ShapeKind", R"({"a": {"dtype": "F32", "shape": 4, "data_offsets": [0, 4]}})", 4,
              "shape=4"},
        Fault{"DeepShape",
              R"({"a": {"dtype": "F32", "shape": [1,1,1,1,1,1,1,1,1], "data_offsets": [0, 4]}})", 4,
              "at most 8 dimensions"},
        Fault{"UnknownType", R"({"a": {"dtype": "F8", "shape": [4], "data_offsets": [0, 4]}})", 4,
              "dtype=\"F8\""},
        Fault{"NoType", R"({"a": {"shape": [4], "data_offsets": [0, 4]}})", 4, "dtype is missing"},
        Fault{"Overlap",
              R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                  "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}})",
              12, "tensor=b: overlaps"},
        Fault{"Hole", R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})", 8,
              "bytes before it are unused"},
        Fault{"Trailing", R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})", 9,
              "trailing bytes=5"},
        Fault{"Twice",
              R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                  "a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})",
              8, "key=\"a\" stands twice"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(SafetensorsTest, TruncatedFilesAreRefused) {
  const std::string file =
      File(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", "12345678");
  ASSERT_TRUE(Parse(file).ok());
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_FALSE(Parse(file.substr(0, size)).ok()) << size;
  }
  std::string lying = file;
  std::memset(lying.data(), 0xFF, 8);
  EXPECT_FALSE(Parse(lying).ok());
  EXPECT_FALSE(Parse(File(std::string(100000, '['), "")).ok());
}

TEST(SafetensorsTest, OpensFiles) {
  const std::string path = testing::TempDir() + "/open.safetensors";
  std::ofstream(path, std::ios::binary) << File(
      R"({"a": {"dtype": "I32", "shape": [1], "data_offsets": [0, 4]}})", Bytes<int32_t>({42}));
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->tensors().at("a").ToInts().value(), std::vector<int32_t>{42});
  std::ofstream(path, std::ios::binary).flush();
  EXPECT_EQ(SafetensorsFile::Open(path).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SafetensorsFile::Open(testing::TempDir()).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SafetensorsFile::Open(path + ".none").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace rasq
