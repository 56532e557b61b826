#include "server/wire.h"

#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "grpcpp/support/proto_buffer_reader.h"
#include "grpcpp/support/slice.h"

namespace rasq {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

// Protobuf's own parser stops at 100; our messages nest four deep.
constexpr int kMaxDepth = 16;

// Returns the fault's description, or empty.
std::string FindInMessage(const Descriptor& type, absl::string_view bytes,
                          const std::string& prefix, int depth) {
  CodedInputStream input(reinterpret_cast<const uint8_t*>(bytes.data()),
                         static_cast<int>(bytes.size()));
  std::map<int, int> seen;  // field number -> elements so far
  while (const uint32_t tag = input.ReadTag()) {
    const FieldDescriptor* field = type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    const bool delimited =
        WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
    if (field == nullptr || !delimited) {
      if (!WireFormatLite::SkipField(&input, tag)) return "";
      continue;
    }
    uint32_t length = 0;
    if (!input.ReadVarint32(&length)) return "";
    const auto start = static_cast<size_t>(input.CurrentPosition());
    if (length > bytes.size() - start || !input.Skip(static_cast<int>(length))) return "";
    const absl::string_view value = bytes.substr(start, length);

    std::string path = absl::StrCat(prefix, field->name());
    if (field->is_repeated() && !field->is_map()) {
      absl::StrAppend(&path, "[", seen[field->number()]++, "]");
    }
    if (field->type() == FieldDescriptor::TYPE_STRING) {
      if (const int64_t at = FindNonUtf8(value); at >= 0) {
        return absl::StrCat(path, ": not UTF-8 at byte ", at);
      }
    } else if (field->type() == FieldDescriptor::TYPE_MESSAGE && depth < kMaxDepth) {
      std::string fault =
          FindInMessage(*field->message_type(), value, absl::StrCat(path, "."), depth + 1);
      if (!fault.empty()) return fault;
    }
  }
  return "";
}

// Bytes of the character that begins at text[at], or 0 if none does.
int CharacterBytes(absl::string_view text, size_t at) {
  const auto byte = [text](size_t i) -> int {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : -1;
  };
  const auto continues = [&byte](size_t i, int low = 0x80, int high = 0xBF) {
    return byte(i) >= low && byte(i) <= high;
  };
  const int lead = byte(at);
  if (lead < 0x80) return 1;
  if (lead < 0xC2) return 0;
  if (lead < 0xE0) return continues(at + 1) ? 2 : 0;
  if (lead < 0xF0) {
    // No overlong forms, no surrogates.
    const int low = lead == 0xE0 ? 0xA0 : 0x80;
    const int high = lead == 0xED ? 0x9F : 0xBF;
    return continues(at + 1, low, high) && continues(at + 2) ? 3 : 0;
  }
  if (lead < 0xF5) {
    // No overlong forms, nothing past U+10FFFF.
    const int low = lead == 0xF0 ? 0x90 : 0x80;
    const int high = lead == 0xF4 ? 0x8F : 0xBF;
    return continues(at + 1, low, high) && continues(at + 2) && continues(at + 3) ? 4 : 0;
  }
  return 0;
}

// All bytes of `buffer`; empty if it cannot be read.
std::string Flatten(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  bytes.reserve(buffer.Length());
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

}  // namespace

int64_t FindNonUtf8(absl::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const int bytes = CharacterBytes(text, at);
    if (bytes == 0) return static_cast<int64_t>(at);
    at += bytes;
  }
  return -1;
}

std::string DescribeNonUtf8(const Descriptor& type, absl::string_view bytes) {
  return FindInMessage(type, bytes, /*prefix=*/"", /*depth=*/0);
}

absl::Status ParseMessage(const grpc::ByteBuffer& buffer, google::protobuf::Message& message) {
  grpc::ByteBuffer shared(buffer);  // counts a reference; the reader wants one it may change
  if (shared.Valid()) {
    grpc::ProtoBufferReader reader(&shared);
    if (message.ParseFromZeroCopyStream(&reader)) return absl::OkStatus();
  }
  const std::string fault = DescribeNonUtf8(*message.GetDescriptor(), Flatten(buffer));
  return absl::InvalidArgumentError(
      !fault.empty() ? fault
                     : absl::StrCat("request: not a ", message.GetDescriptor()->full_name()));
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message) {
  const std::string bytes = message.SerializeAsString();
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace rasq
