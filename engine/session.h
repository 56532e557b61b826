// A session: what callers see of it, what the engine's thread works on, and the text between.
#pragma once

#include <algorithm>
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
#include "engine/search_prompts.h"
#include "engine/session_record.h"
#include "engine/slot_pool.h"
#include "engine/state_layout.h"
#include "engine/step.h"
#include "engine/token_history.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/types.h"
#include "kernels/base/mutex.h"

namespace rasq {

// A state in host memory: in a slot of the pool, or in memory of its own.
struct HostState {
  Slot slot;
  std::unique_ptr<std::byte[]> own;

  std::byte* data() const { return slot ? slot.data() : own.get(); }
};

// Where a session's state is.
enum class Place : int8_t {
  kNone,  // it has no tokens yet
  kDevice,
  kHost,
  kDisk,
};

// One accepted call, in the order of acceptance: an append, a generation, or a task.
struct WorkItem {
  std::vector<std::shared_ptr<const Input>> input;  // of an append
  int64_t num_tokens = 0;
  absl::Time accept_time;
  std::function<void(absl::StatusOr<AppendResult>)> on_absorbed;
  InputMark mark;                          // of an append: where it leaves the session's input
  bool score = false;                      // of an append: see AppendRequest
  int64_t scored_tokens = 0;               // so far
  double logprob_sum = 0;                  // of these
  bool logged = false;                     // and the log has it already
  std::shared_ptr<Generation> generation;  // null: not one
  // Done once all before it is absorbed. False: try again later.
  std::function<absl::StatusOr<bool>()> task;
  std::function<void(const absl::Status&)> on_dropped;  // the task will not be done

  bool is_append() const { return generation == nullptr && task == nullptr; }
};

struct Session {
  Session(ScopedName own_name, const Tokenizer* tokenizer, int64_t hidden)
      : name(std::move(own_name)), text(tokenizer), queue(hidden) {}

  // Constant once it can be found.
  const ScopedName name;
  int64_t key = 0;  // counts sessions as they are made
  std::string request_id;
  SessionOptions options;  // as in force
  std::map<std::string, std::string> labels;
  absl::Time create_time;
  const StateLayout* layout = nullptr;
  std::shared_ptr<const SearchPrompts> prompts;  // of strategy attention_rag

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
  int64_t known_offset = 0;     // next_offset, for those who do not hold input_mu
  int32_t items_in_flight = 0;  // appends and tasks
  int64_t generation = 0;       // the one in flight; 0: none
  bool cancelling = false;      // and its end has been asked for
  std::vector<std::function<void(absl::Status)>> on_deleted;
  Place place = Place::kNone;  // the engine's thread alone changes it
  int64_t history_bytes = 0;   // of `history`

  // The engine's thread's own.
  Slot slot;                        // on the device; may hold what its last owner left if `fresh`
  std::shared_ptr<HostState> host;  // if it is not on the device
  std::string file;                 // if it is in neither memory
  bool fresh = true;                // it has no state
  bool reading = false;             // its file is
  bool writing = false;             // its host state, or a copy of the other, is
  bool waits = false;               // for a slot
  bool gone = false;                // it was deleted
  int64_t used = 0;                 // the number of the step that last moved or copied it
  absl::Time resident_since;        // when it got its slot
  int64_t place_order = 0;          // in the engine's list of states in host memory

  int64_t stored_key = 0;    // see StateStore::NewKey; 0: none yet
  bool logs = false;         // it is in the log
  bool log_pending = false;  // and will be: until then nothing is done for it
  int64_t logged = 0;        // entries, ever
  std::string checkpoint;    // the file that the log goes on from; empty: none
  int64_t checkpoint_position = 0;
  InputMark loaded;         // of all that `queue` was ever given
  int64_t num_loaded = 0;   // items, ever
  int64_t file_loaded = 0;  // of them, those that `file` holds
  StreamCursor cursor;
  InputQueue queue;
  // In place of a state, of strategies that keep histories; null: of others. All that was absorbed,
  // or its end.
  std::unique_ptr<TokenHistory> history;
  std::deque<WorkItem> items;       // accepted and not ended
  int64_t loaded_tokens = 0;        // ever put into `queue`
  std::deque<int64_t> loaded_ends;  // of the items whose input is in `queue`, the first ones:
                                    // loaded_tokens after each
  int64_t score_end = 0;            // loaded_tokens after the last of them that is scored
  int64_t scored_end = 0;           // past the last position whose token was scored, if any was
  int64_t deficit = 0;              // see Flow

  // Up to where all scores that were asked for are known: what the stream has read, and the token
  // behind it, or what was read ahead.
  int64_t ScoredTo() const { return std::max(scored_end, cursor.position + 1); }
  // Whether nothing but the last segment is in `queue`, which waits there until a token stands
  // behind it.
  bool OnlyTailWaits() const {
    const int32_t segment = layout->shape.segment_rows;
    return queue.Parts(cursor, segment, segment, /*keep_last=*/true).empty();
  }
};

}  // namespace rasq
