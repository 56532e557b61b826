// The server's messages as JSON: field names as in proto/, 64-bit counts as numbers, times as RFC
// 3339 strings, durations in seconds.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "rasq/v1/model.pb.h"
#include "rasq/v1/session.pb.h"

namespace rasq::client {

// Keeps the order in which fields are set.
using Json = nlohmann::ordered_json;

Json ToJson(const v1::Session& session);
Json ToJson(const v1::Snapshot& snapshot);
Json ToJson(const v1::GetModelResponse& model);
Json ToJson(const v1::GetServerInfoResponse& info);
Json ToJson(const v1::GenerateSummary& summary);
Json ToJson(const v1::Evidence& evidence);
Json ToJson(const v1::GeneratedToken& token);

// "active", "rasq", "stop": an enumeration's value without its prefix, in lower case.
std::string ShortName(v1::SessionState state);
std::string ShortName(v1::Strategy strategy);
std::string ShortName(v1::RagSplit split);
std::string ShortName(v1::RagOrder order);
std::string ShortName(v1::RagRetriever retriever);
std::string ShortName(v1::FinishReason reason);

// One line on standard output.
void PrintJson(const Json& json);
// A line for each of an object's fields.
void PrintFields(const Json& json);

}  // namespace rasq::client
