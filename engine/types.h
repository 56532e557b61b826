// What the engine's callers say and hear: sessions, content, requests, results. Plain structs; the
// server turns protobuf messages into these at its door, and back.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kernels/ops.h"

namespace rasq {

class Tenants;

// A name that is unique among those of its tenant: of a session, a snapshot, a request.
struct ScopedName {
  ScopedName() = default;
  // Of the tenant "", which all callers are where there is no authentication.
  ScopedName(std::string own_id) : id(std::move(own_id)) {}
  ScopedName(const char* own_id) : id(own_id) {}
  ScopedName(std::string owner, std::string own_id)
      : tenant(std::move(owner)), id(std::move(own_id)) {}
  bool operator==(const ScopedName&) const = default;
  bool operator<(const ScopedName& other) const {
    return std::tie(tenant, id) < std::tie(other.tenant, other.id);
  }

  std::string tenant;
  std::string id;
};

// Records on disk hold the numbers.
enum class Strategy : int8_t {
  kDefault = 0,
  kRasq = 1,
  kFull = 2,
  kWindow = 3,
  kRag = 4,           // text on the host: see RagOptions
  kAttentionRag = 5,  // text on the host: see AttentionRagOptions
  // Published methods that keep exact keys and values behind the window: see state_layout.h.
  kGca = 6,
  kRazor = 7,
  kPyramid = 8,
};
constexpr const char* Name(Strategy strategy) {
  switch (strategy) {
    case Strategy::kDefault:
      return "default";
    case Strategy::kRasq:
      return "rasq";
    case Strategy::kFull:
      return "full";
    case Strategy::kWindow:
      return "window";
    case Strategy::kRag:
      return "rag";
    case Strategy::kAttentionRag:
      return "attention_rag";
    case Strategy::kGca:
      return "gca";
    case Strategy::kRazor:
      return "razor";
    case Strategy::kPyramid:
      return "pyramid";
  }
  return "unknown";
}
// Whether its sessions keep their text on the host, and states only while they generate.
constexpr bool KeepsHistory(Strategy strategy) {
  return strategy == Strategy::kRag || strategy == Strategy::kAttentionRag;
}
enum class SessionState : int8_t {
  kActive,
  kParked,  // as kActive, but its state is in host memory or on disk
  kDeleting,
  kFailed,
};
enum class FinishReason : int8_t { kStop, kLength };

// Parts of strategy rasq that are switched off, to see what they are worth; any of them together.
struct Ablation {
  bool no_dsr = false;   // without the retriever: the newest `budget` entries are read, unscored
  bool no_sqa = false;   // without clusters: what is selected is read exactly
  bool no_rckv = false;  // without the cache: exact entries, as many as fit, replaced by age

  bool any() const { return no_dsr || no_sqa || no_rckv; }
};

enum class RagSplit : int8_t { kTokens, kSentences };
enum class RagOrder : int8_t { kChronological, kScore };
enum class RagRetriever : int8_t { kBm25, kEmbeddings, kNone };

// Of strategy rag, naive retrieval-augmented generation: what was appended is kept as tokens, cut
// into chunks; of each question's generation the chunks that fit it best are the context, before
// the prompt, read with full attention.
inline constexpr int32_t kMaxRagTokens = 65536;  // of a chunk; and chunks of a question
inline constexpr int64_t kMostHistoryTokens = int64_t{1} << 27;  // files hold 1 GiB beside a state
struct RagOptions {
  int32_t chunk_tokens = 0;  // of a chunk, or the most of a sentence; 0: 512
  int32_t chunks = 0;        // k, how many are read; 0: 5
  RagSplit split = RagSplit::kTokens;
  RagOrder order = RagOrder::kChronological;     // kScore: the best first
  RagRetriever retriever = RagRetriever::kBm25;  // not kNone; see token_history.h
  // Past so many the oldest chunks fall out; 0: all is kept, up to EngineOptions'
  // max_history_tokens, past which appends are refused.
  int64_t history_tokens = 0;

  bool operator==(const RagOptions&) const = default;
};

// Of strategy attention_rag (AttentionRAG, arXiv:2503.10720): what was appended is kept as tokens.
// A generation reads chunk after chunk of them, each before its prompt, and looks in each where the
// first token of an answer attends; the sentences there are its context, before the prompt. See
// attention_search.h. Prompts are texts that the tokens of a {chunk}, of the {question}, which is
// the generation's prompt, and of the {hint} are put into.
inline constexpr int32_t kMaxHintTokens = 32;
inline constexpr int64_t kMaxPromptBytes = 4096;
struct AttentionRagOptions {
  int32_t chunk_tokens = 0;    // m; 0: 300
  int32_t top_tokens = 0;      // k of a chunk, whose sentences are kept; 0: 12
  int64_t history_tokens = 0;  // as RagOptions'
  // With {chunk} and {question} once each, and {hint} at most once. Empty: {chunk}{question}{hint}.
  std::string anchor_prompt;
  // What the answer begins with: `hint` or, with a `hint_prompt` that has {question} once, the
  // first line of what the model says to it, of at most kMaxHintTokens. Both empty: nothing.
  std::string hint_prompt, hint;

  bool operator==(const AttentionRagOptions&) const = default;
};

struct SessionOptions {
  Strategy strategy = Strategy::kDefault;  // kDefault: rasq if the model has a memory, else window
  absl::Duration ttl;                      // idle time until it is deleted; 0: the engine's default
  int32_t budget_tokens = 0;               // b0; 0: the model's
  double budget_gain = 0;                  // alpha >= 0; negative: the model's (0)
  double score_floor = NAN;                // entries below it are not read; NaN: the model's
  double half_life_tokens = 0;             // 0: age does not matter
  double replacement_noise = 0;            // 0..1
  int64_t seed = 0;                        // of replacement and sampling
  int32_t priority = 0;                    // higher first
  Ablation ablation;                       // of strategy rasq
  RagOptions rag;                          // of strategy rag
  AttentionRagOptions attention_rag;       // of strategy attention_rag
};

struct SessionInfo {
  std::string tenant;
  std::string id;
  absl::Time create_time;
  absl::Time last_use_time;
  absl::Time expire_time;  // absl::InfiniteFuture(): never
  std::map<std::string, std::string> labels;
  SessionOptions options;  // as in force
  SessionState state = SessionState::kActive;
  int64_t context_tokens = 0;  // in the session's state
  int64_t backlog_tokens = 0;  // accepted, not yet in its state
  int64_t next_offset = 0;     // bytes of text + number of ids + number of embedding rows accepted
  int64_t state_bytes = 0;     // on the device, constant; of histories on the host, and grows
};

// Rows that take the place of token embeddings (images, audio).
struct EmbeddingRows {
  int32_t rows = 0;
  std::vector<float> values;  // [rows, hidden]
};
using Content = std::variant<std::monostate, std::string, std::vector<int32_t>, EmbeddingRows>;

struct CreateSessionRequest {
  std::string tenant;  // whose it is: see tenants.h
  std::string id;      // 1-128 of [A-Za-z0-9._-]; empty: the engine chooses
  SessionOptions options;
  std::map<std::string, std::string> labels;  // at most 16
  std::string request_id;  // repeated creates with the same one give the same session
};

// Sessions or snapshots on a page of a list: if it asks for no number, and at most.
inline constexpr int32_t kDefaultPageSize = 100;
inline constexpr int32_t kMaxPageSize = 1000;

struct SessionPage {
  std::vector<SessionInfo> sessions;  // by id
  std::string next_page_token;        // empty: the last page
};

struct ForkSessionRequest {
  ScopedName session;
  std::string new_id;                         // as CreateSessionRequest's id
  std::map<std::string, std::string> labels;  // empty: as the other's
  std::string request_id;
};

struct SnapshotRequest {
  ScopedName session;
  std::string snapshot_id;  // as a session's id; empty: the engine chooses
};

struct RestoreSessionRequest {
  ScopedName snapshot;
  std::string session_id;                     // as CreateSessionRequest's id
  std::map<std::string, std::string> labels;  // empty: as the snapshot's
  std::string request_id;
};

struct SnapshotInfo {
  std::string id;
  absl::Time create_time;
  std::string session_id;
  int64_t context_tokens = 0;
  int64_t next_offset = 0;
  int64_t file_bytes = 0;
};

struct SnapshotPage {
  std::vector<SnapshotInfo> snapshots;  // by id
  std::string next_page_token;          // empty: the last page
};

struct AppendRequest {
  ScopedName session;
  Content content;
  int64_t offset = -1;  // >= 0: must equal the session's next_offset
  bool pinned = false;  // never leaves the buffer
  bool score = false;   // its tokens; not of embeddings, nor of strategies with histories
};

// What was accepted: it will be absorbed whatever becomes of the caller.
struct AppendReceipt {
  int64_t accepted_tokens = 0;  // by this call
  int64_t backlog_tokens = 0;   // of the session, this call's included
  int64_t next_offset = 0;
};

struct AppendResult {
  int64_t appended_tokens = 0;  // by this call
  int64_t context_tokens = 0;
  int64_t next_offset = 0;  // after this call's content
  // If it was asked for: of this call's tokens, but for the session's first one.
  int64_t scored_tokens = 0;
  double logprob_sum = 0;  // natural logarithm, given all that came before each
};

struct SamplingOptions {
  double temperature = 0;         // 0: greedy
  int32_t top_k = 0;              // 0: off
  double top_p = 0;               // 0 or 1: off
  double min_p = 0;               // 0: off
  double repetition_penalty = 0;  // 0 or 1: off
  double presence_penalty = 0;
  double frequency_penalty = 0;
  bool has_seed = false;
  int64_t seed = 0;  // without one: the session's
};

struct StopOptions {
  int32_t max_new_tokens = 0;  // 0: the engine's default
  int32_t min_new_tokens = 0;
  std::vector<std::string> stop_strings;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  bool include_stop = false;
};

struct GenerateRequest {
  ScopedName session;
  Content prompt;
  SamplingOptions sampling;
  StopOptions stop;
  bool commit = false;   // prompt and output become context
  int32_t logprobs = 0;  // alternatives a token; 0: none
  int32_t evidence = 0;  // context runs to report; 0: none
};

struct TokenLogprob {
  int32_t token_id = 0;
  double logprob = 0;
};
struct GeneratedToken {
  int32_t token_id = 0;
  double logprob = 0;
  std::vector<TokenLogprob> alternatives;
};
struct GenerateChunk {
  std::string text;  // complete characters
  std::vector<GeneratedToken> tokens;
};
struct Evidence {
  int64_t position = 0;  // of the run's first token, counted from the session's start
  std::string text;      // of the run of neighbouring tokens that were read
  double score = 0;      // the highest share that one of them had in a retrieval's softmax over
                         // what it read
};
struct GenerateSummary {
  FinishReason finish_reason = FinishReason::kStop;
  int64_t context_tokens = 0;  // read from, the prompt not counted
  int32_t prompt_tokens = 0;
  int32_t output_tokens = 0;
  double retrieved_tokens = 0;  // mean over the call's retrievals
  std::vector<Evidence> evidence;
  absl::Duration queue_time;
  absl::Duration time_to_first_token;
  absl::Duration total_time;
};

enum class LoadFormat : int8_t {
  kCheckpoint,
  kDummy,  // random weights of the configs' shapes, for measuring without a checkpoint
};

// The published methods: strategies gca, razor and pyramid. What the papers say is the default.
struct BaselineOptions {
  // 0: states as published, which hold full_context_tokens and refuse more. Else states of constant
  // size, the largest of so many bytes: see store_plan.h for what is left out then.
  int64_t state_bytes = 0;
  int32_t razor_sink_tokens = 4;      // N0
  int32_t razor_local_tokens = 4000;  // S0: the least that a head keeps of the newest
  int32_t razor_compression = 5;      // C: a head that does not retrieve keeps 1 / C of the stream
  double razor_induction_share = 0.14;   // of all kv heads: those that retrieve, by induction score
  double razor_echo_share = 0.01;        // and by echo score
  int32_t razor_prompt_tokens = 2500;    // K: of the random prompt, which is read four times over
  int32_t pyramid_budget_tokens = 2048;  // B: mean of the layers, the window's among them
  int32_t pyramid_beta = 20;             // the last layer has 1 / beta of the mean
  int32_t pyramid_query_tokens = 8;      // w: the last queries, by which tokens are chosen
  int32_t pyramid_pool_tokens = 7;       // width of the max-pooling of their weights, odd
  int32_t gca_read_chunks = 8;           // k: chunks that a segment and kv head read
};

// Counts and bytes are of one device.
struct EngineOptions {
  std::string model = "models/default";  // directory of the checkpoint
  LoadFormat load_format = LoadFormat::kCheckpoint;
  OpsOptions ops;  // device, threads, element type; EngineGroup takes a list of devices
  // States of strategies rasq and window on the device. 0: as many as fit beside all the rest and
  // the reserve; -1: 16 on the processor, as many as fit on a GPU.
  int32_t max_sessions = -1;
  int64_t device_reserve_bytes = int64_t{512} << 20;  // left free if as many as fit are made
  int64_t host_state_bytes = 0;  // host memory for states of idle sessions; 0: none
  std::string state_dir;         // for states of idle sessions, and all at the end; empty: none
  bool durable = false;          // what is absorbed survives a crash; needs state_dir
  std::string snapshot_dir;      // may be shared by servers; empty: "snapshots" in state_dir
  // Sessions open at once. 0: as many as there are places for their states, where a disk has 65536.
  int32_t max_open_sessions = 0;
  int32_t max_generations = 4;  // generations at once; each works on a copy of a state
  // Those that sessions may have; rasq only where the model has a memory. rag and attention_rag,
  // which keep histories, want full beside them.
  std::vector<Strategy> strategies = {Strategy::kRasq, Strategy::kWindow, Strategy::kFull,
                                      Strategy::kRag};
  // States of each strategy but rasq, window and those that keep histories; 0: none of these are
  // served, nor histories.
  int32_t max_full_sessions = 2;
  // Length at which strategy full refuses more, and the published methods as they were published.
  int32_t full_context_tokens = 8192;
  // Open sessions of each strategy that keeps histories; 0: none are served.
  int32_t max_history_sessions = 16;
  int64_t max_history_tokens = 4 << 20;  // that one of them may keep
  BaselineOptions baselines;
  int32_t capacity_tokens = 0;  // entries of the rotating buffer; 0: the model's
  // kInt8: entries and their index keys take about half the bytes of bfloat16; what is read of them
  // is rounded. The window is of the element type in any case.
  EntryType entry_type = EntryType::kElement;
  int32_t max_batch_tokens = 0;     // rows of one step; 0: 512 on the processor, 4096 on a GPU
  int32_t max_batch_streams = 256;  // sessions and generations of one step; the others wait a step
  int64_t max_backlog_tokens = 4 << 20;         // accepted and not absorbed, of one session
  int64_t max_total_backlog_tokens = 16 << 20;  // of all sessions
  int32_t max_queued_generations = 256;         // waiting for a place
  int32_t default_max_new_tokens = 256;
  int32_t max_new_tokens = 65536;  // the most that one call may ask for
  absl::Duration default_ttl;      // 0: sessions do not expire
  // The most that appends may make a step of decoding generations last, beside one of those alone;
  // 0: no bound. Appends have a quarter of the time in any case: see step_pace.h.
  double mixed_step_slowdown = 1.7;
  std::shared_ptr<Tenants> tenants;  // weights, quotas; null: all have equal weights and none
};

// States of a strategy that has slots of its own.
struct OwnStates {
  Strategy strategy = Strategy::kFull;
  int32_t sessions = 0;
  int64_t state_bytes = 0;         // of one
  int32_t max_context_tokens = 0;  // at which it refuses more; 0: never
};

struct ModelInfo {
  std::string name;  // the directory's last part
  std::string architecture;
  std::string fingerprint;
  int64_t parameters = 0;
  int32_t vocab = 0;
  int32_t hidden = 0;
  int32_t layers = 0;
  int32_t window_tokens = 0;
  int32_t segment_tokens = 0;
  int32_t capacity_tokens = 0;
  int32_t budget_tokens = 0;      // of a session that asks for none
  int32_t max_budget_tokens = 0;  // the most that a segment may read
  int64_t session_state_bytes = 0;
  int32_t session_slots = 0;
  std::string device;
  std::string dtype;
  std::string entry_type;             // of the memory's entries: as dtype, or "int8"
  std::vector<OwnStates> own_states;  // of strategies that do not share slots with others
};

// Gauges and counters at one moment.
struct EngineStats {
  int32_t sessions_open = 0;
  int32_t max_open_sessions = 0;
  int32_t sessions_active = 0;  // with work in flight
  int32_t slots_total = 0;
  int32_t slots_used = 0;
  int32_t work_slots = 0;  // for generations' copies
  int32_t sessions_parked_host = 0;
  int32_t sessions_parked_disk = 0;
  int64_t backlog_tokens = 0;
  int64_t backlog_limit_tokens = 0;  // past it appends are refused
  int32_t generations_running = 0;
  int32_t generations_queued = 0;
  int64_t appended_tokens = 0;      // ever
  int64_t generated_tokens = 0;     // ever
  int64_t buffer_replacements = 0;  // entries that fell out of a buffer, ever
  int64_t parks = 0;                // a session left the device, ever
  int64_t unparks = 0;              // and came back, ever
  int64_t snapshots_written = 0;    // files of states, ever
  int64_t snapshots_failed = 0;     // that could not be written, ever
  int64_t log_entries = 0;          // appends written to the durable log, ever
  int64_t log_syncs = 0;            // of that log to disk, ever, of the whole group
  int64_t weight_bytes = 0;         // on the device
  int64_t session_bytes = 0;
  int64_t workspace_bytes = 0;
};

enum class StepKind : int8_t { kAppend, kDecode, kMixed };

// Hears of what the engine does as it does it, on the engine's own thread: must return at once.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnStep(StepKind /*kind*/, absl::Duration /*time*/, int32_t /*tokens*/) {}
  virtual void OnFirstToken(absl::Duration /*since_call*/) {}
  virtual void OnNextToken(absl::Duration /*since_last*/) {}
  virtual void OnAbsorbed(absl::Duration /*since_accepted*/) {}
  // One retrieval: the budget that was allowed and the entries that were read.
  virtual void OnRetrieval(int32_t /*budget_tokens*/, int32_t /*read_tokens*/) {}
  // A state could not be written to the state directory. While the engine runs it keeps the state
  // and tries again; at its end the state is lost unless there is a log. On any thread, at length.
  virtual void OnWriteFailed(const ScopedName& /*session*/, const absl::Status& /*status*/) {}
};

}  // namespace rasq
