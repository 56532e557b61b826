// A model with streams of its own, without engine or scheduler: for tests that compare
// tensors.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/model.h"
#include "engine/safetensors.h"
#include "engine/state_layout.h"
#include "kernels/ops.h"

namespace rasq::testing {

// A file below the repository's root; absolute paths are as they are.
std::string SourcePath(const std::string& relative);

struct HarnessOptions {
  std::string checkpoint;           // below the repository's root, or an absolute path
  std::string backend = "float32";  // of backends.h
  int32_t capacity = 0;             // 0: the checkpoint's
  int32_t num_clusters = 0;
  int32_t read_clusters = 8;
  int32_t cluster_min_entries = 128;
  int32_t max_rows = 512;
  int32_t max_streams = 4;
  int32_t full_context = 1024;
  BaselineOptions baselines = {};
};

struct TestStream {
  const StateLayout* layout;
  std::unique_ptr<Buffer> state;
  StreamCursor cursor;
};

// Dies if the checkpoint cannot be loaded: a test has nothing to say then.
class ModelHarness {
 public:
  explicit ModelHarness(const HarnessOptions& options);

  Model& model() { return *model_; }
  Ops& ops() { return *ops_; }
  const MemoryConfig& memory() const { return model_->memory(); }

  TestStream NewStream(Strategy strategy = Strategy::kRasq);
  // Of the layouts made from now on.
  StoreOptions& store() { return store_; }
  // A step of one stream; [tokens, vocab] logits. `breaks` are indices that start a segment.
  std::vector<float> Run(TestStream& stream, const std::vector<int32_t>& tokens,
                         const std::vector<int32_t>& breaks = {});
  // What Run makes a stream's share of a step of.
  StreamStep Step(TestStream& stream, const std::vector<int32_t>& tokens,
                  const std::vector<int32_t>& breaks = {}) const;
  // Positions of the entries, ascending, -1 for empty slots.
  std::vector<int32_t> EntryPositions(const TestStream& stream);

 private:
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Model> model_;
  std::vector<std::unique_ptr<StateLayout>> layouts_;
  StoreOptions store_;
};

// A tensor of a safetensors file of tests/testdata.
TensorView Expected(const SafetensorsFile& file, const std::string& name);

// Largest |got - want| over largest |want|.
double RelativeError(const float* got, const float* want, int64_t count);

}  // namespace rasq::testing
