// The decoder with its memory, written once over Ops: runs one step of many streams.
#pragma once

#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/checkpoint.h"
#include "engine/step.h"
#include "engine/step_batch.h"
#include "engine/weights.h"
#include "engine/workspace.h"
#include "kernels/ops.h"

namespace rasq {

// One entry that a segment reads.
struct RetrievedEntry {
  int64_t position = 0;
  int32_t token = -1;  // -1: it came as an embedding
  float score = 0;     // without the gate
  float log_gate = 0;
};

// Of a head, summed over the rows of a run: repeat_scores.h.
struct RepeatSum {
  double echo = 0;
  double induction = 0;
};

// Used by one thread at a time.
class Model {
 public:
  // `memory` is the checkpoint's, or that with another capacity or budget. Borrows `ops`.
  static absl::StatusOr<std::unique_ptr<Model>> Create(const Checkpoint& checkpoint,
                                                       const MemoryConfig& memory,
                                                       const StepLimits& limits, Ops& ops);

  // Makes room for what steps of the layout's streams need beside their states; called before the
  // first of them.
  absl::Status Serve(const StateLayout& layout);

  // Makes room for the StreamStep::key_weights of so many streams of a step, of layouts that are no
  // longer than this one.
  absl::Status ServeKeyWeights(const StateLayout& layout, int32_t streams);

  // Runs the streams' tokens through the decoder, writes their states and moves their cursors.
  // Streams must fit in `limits`; ids must be in the vocabulary. After an error the streams' states
  // are unusable.
  absl::StatusOr<std::vector<StepOutcome>> Step(absl::Span<const StreamStep> streams);

  // Runs a new stream's tokens, which repeat with that period from the token `first` on, in a state
  // of strategy full that holds them all. Returns [layers, num_heads].
  absl::StatusOr<std::vector<RepeatSum>> SumRepeats(const StateLayout& layout, std::byte* state,
                                                    const std::vector<InputToken>& tokens,
                                                    int64_t first, int64_t period);

  // What the open segment of a stream reads at the retrieval layer of that index, by position.
  absl::StatusOr<std::vector<RetrievedEntry>> Retrieved(const StateLayout& layout,
                                                        const std::byte* state,
                                                        int32_t retrieval) const;

  // The mean of the tokens' input embeddings, brought to length 1; zero if there are none.
  absl::StatusOr<std::vector<float>> Embedding(absl::Span<const int32_t> ids);

  // After a step of one stream: the positions that its `segment`-th segment read. For tests.
  absl::StatusOr<std::vector<int64_t>> SelectedPositions(int32_t retrieval, int32_t segment) const;

  const ModelConfig& config() const { return config_; }
  const MemoryConfig& memory() const { return memory_; }
  const StepLimits& limits() const { return limits_; }
  int64_t workspace_bytes() const {
    return workspace_.bytes + (lists_ ? lists_->bytes() : 0) +
           (key_weights_ ? key_weights_->bytes() : 0);
  }

 private:
  // A StepGroup whose descriptors are on the device.
  struct DeviceGroup {
    const StateLayout* layout;
    StreamBatch batch;
    const WritePolicy* write;
    const ReadPolicy* read;
    int32_t first_segment, first_chunk, first_staged, first_entry, first_store;
    bool retrieves;         // a segment begins somewhere in it
    bool keeps_sinks;       // one of the first tokens of a stream leaves the window
    const int32_t* budget;  // [layers, chunks] of strategy pyramid: see pyramid_entries.h
    float* key_weights;     // of KeyWeights, if its streams ask for these
  };
  // Steps in which all streams decode and that are equal in this run the same operations with the
  // same arguments.
  struct DecodeShape {
    const StateLayout* layout;
    int32_t rows;
    int32_t staged;
    bool retrieves;
    bool keeps_sinks;
    bool operator<(const DecodeShape& o) const {
      return std::tie(layout, rows, staged, retrieves, keeps_sinks) <
             std::tie(o.layout, o.rows, o.staged, o.retrieves, o.keeps_sinks);
    }
  };

  // A run of SumRepeats.
  struct RepeatWatch {
    int64_t first, period;
    std::vector<RepeatSum> sums;
    std::vector<RepeatScores> rows;
    std::unique_ptr<Buffer> out;
  };

  Model(const Checkpoint& checkpoint, const MemoryConfig& memory, const StepLimits& limits,
        Ops& ops, Weights weights, Workspace workspace);

  // A step's parts (model_step.cc).
  absl::Status UploadStep(absl::Span<const StreamStep> streams, const StepBatch& batch);
  const int32_t* UploadBudgets(absl::Span<const StreamStep> streams, const StepGroup& group);
  void UploadSamples(absl::Span<const StreamStep> streams, const StepBatch& batch);
  void UploadTargets(absl::Span<const StreamStep> streams, const StepBatch& batch);
  absl::Status ReplayDecode(const StepBatch& batch);
  absl::Status RunOps(absl::Span<const StreamStep> streams, const StepBatch& batch);
  // Its layers (model.cc).
  absl::Status RunLayer(int32_t layer, const StepBatch& batch);
  absl::Status Attend(int32_t layer, const DeviceGroup& group);
  absl::Status Index(int32_t layer, const DeviceGroup& group);
  absl::Status Retrieve(int32_t layer, const DeviceGroup& group);
  // By the budget head, for the segments that begin; does nothing without one.
  absl::Status ChooseBudgets(int32_t layer, const DeviceGroup& group);
  const float* BudgetFactors(const DeviceGroup& group) const;  // null without a head
  absl::Status Stage(const DeviceGroup& group, int64_t ring_offset, const void* chunk, void* staged,
                     int64_t row_bytes);
  absl::Status Commit(const DeviceGroup& group, int64_t entries_offset, const void* staged,
                      int64_t row_bytes);
  absl::Status WriteRing(const DeviceGroup& group, int64_t ring_offset, int32_t ring_rows,
                         const void* chunk, int64_t row_bytes);
  EntryClusters ClustersOf(int32_t layer, const DeviceGroup& group) const;
  SelectedEntries SelectedOf(int32_t retrieval, const DeviceGroup& group) const;
  // Summaries of what the memory has lost (model_summaries.cc).
  LostEntries LostOf(const DeviceGroup& group) const;
  SelectedEntries ReadOf(const DeviceGroup& group) const;
  absl::Status LoseEntries(const DeviceGroup& group);
  absl::Status ListSummaries(int32_t retrieval, const DeviceGroup& group);
  absl::Status Summarize(int32_t layer, const DeviceGroup& group, StreamAttentionArgs& attention);
  // Layers of strategies that keep a store (model_store.cc).
  absl::Status KeepInStore(int32_t layer, const DeviceGroup& group, StreamAttentionArgs& attention);
  absl::Status KeepByStrategy(int32_t layer, const DeviceGroup& group, const HeadStore& store,
                              StreamAttentionArgs& attention);
  std::byte* ScratchOf(int64_t words) const;
  absl::Status KeepQueries(int32_t layer, const DeviceGroup& group);
  HeadLists ListsOf(int32_t layer, const DeviceGroup& group) const;
  // After a layer's attention, in a run of SumRepeats (model_repeats.cc).
  absl::Status Watch(int32_t layer, const StreamAttentionArgs& attention);
  // What its streams' last tokens attend to (model_key_weights.cc).
  float* TakeKeyWeights(const StepGroup& group, int64_t& used) const;
  absl::Status WeighKeys(int32_t layer, const DeviceGroup& group,
                         const StreamAttentionArgs& attention);
  absl::Status ReadKeyWeights(absl::Span<const StreamStep> streams, const StepBatch& batch);
  // What comes out of it (model_outputs.cc).
  absl::Status CopyLogits(absl::Span<const StreamStep> streams);
  // Logits of rows of the residual stream into the workspace; `row` picks them, null: the first.
  absl::Status Logits(const float* x, const int32_t* row, int64_t num_rows);
  absl::Status SampleRows();
  absl::Status ScoreTargets();
  absl::Status ReadTargets(absl::Span<const StreamStep> streams,
                           std::vector<StepOutcome>& outcomes) const;
  void ReadSamples(absl::Span<const StreamStep> streams, std::vector<StepOutcome>& outcomes) const;
  void ReadCounts(const StepBatch& batch, std::vector<StepOutcome>& outcomes) const;
  void ReadListCounts(const StepGroup& group, std::vector<StepOutcome>& outcomes) const;

  const ModelConfig config_;
  const MemoryConfig memory_;
  const StepLimits limits_;
  Ops& ops_;
  const Weights weights_;
  Workspace workspace_;
  std::unique_ptr<Buffer> inv_freq_;  // double [head_dim / 2]
  // Of one group and layer at a time: HeadLists of the store streams. Null: no layout has a store.
  std::unique_ptr<Buffer> lists_;
  int64_t max_listed_ = 0;   // of the layouts that are served
  int64_t max_scratch_ = 0;  // words a list, of the strategies' operations

  std::unique_ptr<Buffer> key_weights_;  // float, of all groups of a step; null: nobody asks

  RepeatWatch* watch_ = nullptr;  // while SumRepeats runs

  // Of the step that runs.
  std::vector<DeviceGroup> groups_;
  const int32_t* token_ = nullptr;
  const uint8_t* pinned_ = nullptr;
  const int32_t* sample_row_ = nullptr;
  const SamplePolicy* sample_policy_ = nullptr;
  int32_t num_samples_ = 0;
  const int32_t* target_row_ = nullptr;
  const int32_t* target_ = nullptr;
  int64_t num_targets_ = 0;

  std::map<DecodeShape, std::unique_ptr<Recording>> recordings_;  // null: ran once, not recorded
};

}  // namespace rasq
