// A session without its slab, as it is written to disk: who it is, how far it has come, and what
// has been accepted and is not in the slab yet.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/input_queue.h"
#include "engine/state_layout.h"
#include "engine/step.h"
#include "engine/types.h"

namespace rasq {

// Where the input of a session stands after one of its appends.
struct InputMark {
  int64_t next_offset = 0;
  int64_t pinned_tokens = 0;
  std::string held_text;  // said, but not tokens yet: see TextStream
  bool begun = false;     // a BOS token can no longer be put in front
};

// What the meaning of a session's tokens and slab depends on, by name: model, element type, sizes
// of the memory.
using StateOrigin = std::map<std::string, std::string>;
StateOrigin OriginOf(const std::string& model_fingerprint, DType element,
                     const StateLayout& layout);
// kFailedPrecondition names the first difference: field, the record's value, and this server's.
absl::Status CheckOrigin(const StateOrigin& record, const StateOrigin& own);

struct SessionRecord {
  StateOrigin origin;
  ScopedName name;
  std::string request_id;
  SessionOptions options;  // as in force
  std::map<std::string, std::string> labels;
  absl::Time create_time;
  absl::Time last_use_time;
  InputMark mark;       // after all of `queue`
  StreamCursor cursor;  // of the slab
  std::vector<std::shared_ptr<const Input>> queue;
  // In place of a slab, of strategies that keep histories: its tokens up to the cursor, or as many
  // of them as it keeps.
  std::vector<int32_t> history;

  int64_t context_tokens() const;
};

// CBOR (RFC 8949). Times are kept to the microsecond.
std::string EncodeRecord(const SessionRecord& record);
// Any bytes: kDataLoss if they are no record.
absl::StatusOr<SessionRecord> DecodeRecord(absl::string_view bytes);

}  // namespace rasq
