// A session: what callers see of it, what the engine's thread works on, and the text between.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/generation.h"
#include "engine/input_queue.h"
#include "engine/slot_pool.h"
#include "engine/state_layout.h"
#include "engine/step.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/types.h"
#include "kernels/base/mutex.h"

namespace rasq {

// One accepted call, in the order of acceptance: an append, or a generation.
struct WorkItem {
  std::vector<std::shared_ptr<const Input>> input;  // of an append
  int64_t num_tokens = 0;
  int64_t next_offset = 0;
  absl::Time accept_time;
  std::function<void(absl::StatusOr<AppendResult>)> on_absorbed;
  std::shared_ptr<Generation> generation;  // null: an append
};

struct Session {
  Session(std::string session_id, const Tokenizer* tokenizer, int64_t hidden)
      : id(std::move(session_id)), text(tokenizer), queue(hidden) {}

  // Constant once it can be found.
  const std::string id;
  int64_t key = 0;  // counts sessions as they are made
  std::string tenant;
  std::string request_id;
  SessionOptions options;  // as in force
  std::map<std::string, std::string> labels;
  absl::Time create_time;
  const StateLayout* layout = nullptr;

  // What has been said so far, and in what order. Locked before the engine's own mutex.
  Mutex input_mu;
  TextStream text ABSL_GUARDED_BY(input_mu);
  bool begun ABSL_GUARDED_BY(input_mu) = false;  // a BOS token can no longer be put in front
  int64_t next_offset ABSL_GUARDED_BY(input_mu) = 0;
  int64_t pinned_tokens ABSL_GUARDED_BY(input_mu) = 0;
  int64_t num_inputs ABSL_GUARDED_BY(input_mu) = 0;  // calls that added content

  // Guarded by the engine's mutex.
  SessionState state = SessionState::kActive;
  absl::Status failure;  // why, if kFailed
  absl::Time last_use_time;
  int64_t accepted_tokens = 0;
  int64_t absorbed_tokens = 0;
  int64_t known_offset = 0;  // next_offset, for those who do not hold input_mu
  int32_t appends_in_flight = 0;
  int64_t generation = 0;   // the one in flight; 0: none
  bool cancelling = false;  // and its end has been asked for
  std::vector<std::function<void(absl::Status)>> on_deleted;

  // The engine's thread's own.
  Slot slot;
  bool fresh = true;  // the slot still holds what its last owner left
  StreamCursor cursor;
  InputQueue queue;
  std::deque<WorkItem> items;       // accepted and not ended
  int64_t loaded_tokens = 0;        // ever put into `queue`
  std::deque<int64_t> loaded_ends;  // of the items whose input is in `queue`, the first ones:
                                    // loaded_tokens after each
  int64_t deficit = 0;              // see Flow
};

}  // namespace rasq
