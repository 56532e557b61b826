// Messages to and from the bytes that gRPC's raw methods carry. The services parse for themselves
// because gRPC answers UNIMPLEMENTED to a message that does not parse, such as one with a string
// that is not UTF-8; ours is kInvalidArgument with the field's name.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "grpcpp/support/byte_buffer.h"

namespace rasq {

// kInvalidArgument: `content.text: not UTF-8 at byte 17`, or that the bytes are no such message.
absl::Status ParseMessage(const grpc::ByteBuffer& buffer, google::protobuf::Message& message);

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message);

// Position of the first byte that begins no well-formed character (Unicode 15, table 3-7); -1 if
// all of `text` is UTF-8.
int64_t FindNonUtf8(absl::string_view text);

// Which string field of a serialized message of this type is not UTF-8, and where: "path: not
// UTF-8 at byte N". Empty if there is none, or if the bytes are not well-formed before it.
std::string DescribeNonUtf8(const google::protobuf::Descriptor& type, absl::string_view bytes);

}  // namespace rasq
