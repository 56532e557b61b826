// Protobuf messages to the engine's types and back. What comes in is checked here for range and
// size, so that nothing outlandish gets further: errors are kInvalidArgument and begin with the
// field's path (grpc_status.h). What only the engine can know it checks itself.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/types.h"
#include "rasq/v1/model.pb.h"
#include "rasq/v1/session.pb.h"

namespace rasq {

// What one call may carry.
struct ContentLimits {
  int64_t max_text_bytes = 16 << 20;
  int32_t max_tokens = 1 << 20;  // token ids, or rows of embeddings
};

// 1 to 128 of [A-Za-z0-9._-]; `field` names the id in the error.
absl::Status CheckId(absl::string_view id, absl::string_view field);

// `field` names the text in the error.
absl::Status CheckText(absl::string_view text, const ContentLimits& limits,
                       absl::string_view field);

// Each id must be of the vocabulary; `field` names them in the error.
absl::Status CheckTokenIds(const google::protobuf::RepeatedField<int32_t>& ids,
                           const ModelInfo& model, const ContentLimits& limits,
                           absl::string_view field);

// Names are of the tenant that is given here; "" where there is none.
absl::StatusOr<CreateSessionRequest> FromProto(const v1::CreateSessionRequest& request,
                                               const std::string& tenant);
absl::StatusOr<ForkSessionRequest> FromProto(const v1::ForkSessionRequest& request,
                                             const std::string& tenant);
absl::StatusOr<SnapshotRequest> FromProto(const v1::SnapshotSessionRequest& request,
                                          const std::string& tenant);
absl::StatusOr<RestoreSessionRequest> FromProto(const v1::RestoreSessionRequest& request,
                                                const std::string& tenant);
// Of ListSessions and ListSnapshots.
absl::Status CheckPage(int32_t page_size, absl::string_view page_token);

// Takes the text out of the message. Content that is unset gives std::monostate.
absl::StatusOr<Content> TakeContent(v1::Content& content, const ModelInfo& model,
                                    const ContentLimits& limits, absl::string_view field);
absl::StatusOr<AppendRequest> TakeAppend(v1::AppendRequest& request, const ModelInfo& model,
                                         const ContentLimits& limits);
absl::StatusOr<GenerateRequest> TakeGenerate(v1::GenerateRequest& request, const ModelInfo& model,
                                             const ContentLimits& limits);

v1::Session ToProto(const SessionInfo& session);
v1::Snapshot ToProto(const SnapshotInfo& snapshot);
v1::AppendResponse ToProto(const AppendResult& result);
// Adds a chunk to the end of a message.
void MergeChunk(const GenerateChunk& chunk, v1::GenerateResponse& message);
v1::GenerateSummary ToProto(const GenerateSummary& summary);
v1::GetModelResponse ToProto(const ModelInfo& model);
// What one engine holds.
v1::Device ToProto(const ModelInfo& model, const EngineStats& stats);

void SetTime(absl::Time time, google::protobuf::Timestamp& proto);

}  // namespace rasq
