// One stream of an evaluation: a session that is told an episode between text, and asked about it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/eval/haystack.h"
#include "client/eval/results.h"
#include "client/eval/task_set.h"
#include "client/rasq_client.h"

namespace rasq::client {

struct StreamRunOptions {
  int64_t max_questions = 8;               // of each task
  int64_t window_tokens = 0;               // what is nearer was read without retrieval
  int64_t generate_tokens = 0;             // of the timed generation at the end; 0: none
  std::string session_options;             // as ParseSessionOptions reads them
  std::function<void(int64_t)> on_tokens;  // so many more were sent; may be called by any
                                           // thread that runs a stream
  std::function<bool()> stop;              // true: end with kCancelled soon
};

struct StreamRecord {
  StreamResult stream;
  std::vector<QuestionResult> questions;
};

// Makes the session, and deletes it with `cleaner`, which no cancellation should touch. The text is
// made and sent in pieces of some kilobytes; the server's tokenizer counts it. A stream that the
// server does not take, because it has no such strategy or options or because of the strategy's
// limits, is a result too (StreamResult::refused); so is one that is too short for its task.
absl::StatusOr<StreamRecord> RunStream(Client* client, Client* cleaner, const TaskSet& tasks,
                                       const Haystack& haystack, const StreamKey& key,
                                       const StreamRunOptions& options);

}  // namespace rasq::client
