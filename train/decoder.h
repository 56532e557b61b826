// The decoder with its memory in libtorch, in the parallel form: a stream of N tokens is
// N / segment segments, and each attends to keys of its own, so streams x segments is the batch.
// Agrees to rounding with engine/model.h, which runs the same checkpoint step by step.
//
// Sources: algorithm.md sections 1 to 4 for the memory; the decoder is the Llama family's.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint.h"
#include "engine/model_config.h"
#include "train/clusters.h"
#include "train/retrieval.h"
#include "train/segment_attention.h"
#include "train/torch.h"

namespace rasq::train {

// By the checkpoint's names: float32, of the shapes of engine/dummy_weights.h.
using Parameters = std::map<std::string, Tensor>;

// Whether a tensor of that name is the adapter's (rasq.safetensors) or the decoder's.
bool IsAdapterParameter(const std::string& name);

struct ForwardOptions {
  torch::ScalarType compute = torch::kFloat32;  // of activations; parameters are cast to it
  int64_t capacity = 0;  // L: entries that survive, the best-gated ones; 0: all
  bool compression_loss = false;
  bool full_attention = false;  // the decoder alone, without its memory
  RetrievalProbe probe;         // what to look into, and how to select there
};

struct ForwardResult {
  Tensor hidden;                      // [streams, tokens, hidden], after the last norm
  Tensor log_gate;                    // float [streams, tokens]; undefined without a memory
  std::vector<Retrieval> retrievals;  // [retrieval layers]
  Tensor compression_loss;            // mean over layers of the relative square errors of K and V
};

// Sees what each layer of the plain decoder works on: its input h [streams, tokens, hidden] after
// the first norm, and what attention makes of it.
using LayerObserver = std::function<void(int64_t layer, const Tensor& h, const Heads& keys)>;

class Decoder {
 public:
  static absl::StatusOr<Decoder> Load(const Checkpoint& checkpoint);
  // New weights, drawn from libtorch's generator.
  static Decoder Make(const ModelConfig& model, const MemoryConfig& memory);

  // Gives a model without one a budget head over these factors, which leaves the budget as it is
  // until something is learned. kFailedPrecondition if it has one over others.
  absl::Status AddBudgetHead(const std::vector<float>& factors);
  // Gives a model without them that many summary slots, of small random queries. decay: in [0, 1).
  // kFailedPrecondition if it has other slots, or clusters.
  absl::Status AddSummaries(int32_t slots, float decay);
  // How entries are read by clusters from now on: 0 clusters, without any. kFailedPrecondition if
  // the model has summary slots.
  absl::Status SetClusters(const ClusterShape& shape);

  // tokens: int64 [streams, tokens], a multiple of the segment. The model must have a memory.
  ForwardResult Forward(const Tensor& tokens, const ForwardOptions& options) const;
  // The plain decoder: causal attention over everything. hidden [streams, tokens, hidden].
  Tensor ForwardFull(const Tensor& tokens, torch::ScalarType compute,
                     const LayerObserver& observe = nullptr) const;

  // [vocab, hidden]; the embedding itself if they are tied.
  const Tensor& head() const;
  const ModelConfig& model() const { return model_; }
  const MemoryConfig& memory() const { return memory_; }
  const Parameters& parameters() const { return parameters_; }
  void MoveTo(const torch::Device& device);

 private:
  Decoder(const ModelConfig& model, const MemoryConfig& memory) : model_(model), memory_(memory) {}
  const Tensor& Of(int64_t layer, const std::string& name) const;
  const Tensor& OfAdapter(int64_t layer, const std::string& name) const;
  Tensor Embed(const Tensor& tokens, torch::ScalarType compute) const;
  // h: [streams, tokens, hidden], after the layer's first norm. query_bias: NormAndRotate's.
  Heads Project(int64_t layer, const Tensor& h, const Angles& angles,
                const Tensor& query_bias) const;
  // x plus the output of attention [streams, tokens, heads, head_dim], then plus the
  // feed-forward's.
  Tensor Finish(int64_t layer, const Tensor& x, const Tensor& attended) const;
  Tensor Norm(const Tensor& x, const Tensor& weight) const;
  Tensor InvFreq() const;
  // The budgets that a segment of a stream of so many tokens has to choose among; one without a
  // head.
  std::vector<int64_t> Budgets(int64_t tokens) const;

  ModelConfig model_;
  MemoryConfig memory_;
  Parameters parameters_;
};

}  // namespace rasq::train
