#include "tests/support/model_harness.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/match.h"
#include "kernels/base/status.h"
#include "tests/support/backends.h"

namespace rasq::testing {
namespace {

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (!value.ok()) std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
  RASQ_CHECK(value.ok());
  return *std::move(value);
}

}  // namespace

// The variable is for programs that run where the tree they were built from is not.
std::string SourcePath(const std::string& relative) {
  if (!relative.empty() && relative.front() == '/') return relative;
  const char* folder = std::getenv("RASQ_SOURCE_DIR");
  return std::string(folder != nullptr ? folder : RASQ_SOURCE_DIR) + "/" + relative;
}

ModelHarness::ModelHarness(const HarnessOptions& options)
    : store_{.full_context_tokens = options.full_context, .baselines = options.baselines} {
  const bool is_absolute = absl::StartsWith(options.checkpoint, "/");
  checkpoint_ =
      OrDie(Checkpoint::Open(is_absolute ? options.checkpoint : SourcePath(options.checkpoint)));
  ops_ = OrDie(OpenOps(BackendOptions(options.backend)));
  MemoryConfig memory = checkpoint_->memory();
  if (options.capacity > 0) memory.capacity = options.capacity;
  memory.entry_type = EntryTypeOf(options.backend);
  memory.num_clusters = options.num_clusters;
  memory.read_clusters = options.read_clusters;
  memory.cluster_min_entries = options.cluster_min_entries;
  model_ = OrDie(Model::Create(*checkpoint_, memory,
                               {.max_streams = options.max_streams,
                                .max_store_streams = options.max_streams,
                                .max_rows = options.max_rows,
                                .max_samples = 4},
                               *ops_));
}

TestStream ModelHarness::NewStream(Strategy strategy) {
  for (const auto& layout : layouts_) {
    if (layout->strategy == strategy) {
      TestStream stream{.layout = layout.get(), .state = OrDie(ops_->Allocate(layout->bytes))};
      RASQ_CHECK(ResetState(*layout, *ops_, stream.state->data()).ok());
      return stream;
    }
  }
  layouts_.push_back(std::make_unique<StateLayout>(
      OrDie(MakeStateLayout(strategy, model_->config(), memory(), ops_->element(), store_))));
  RASQ_CHECK(model_->Serve(*layouts_.back()).ok());
  return NewStream(strategy);
}

StreamStep ModelHarness::Step(TestStream& stream, const std::vector<int32_t>& tokens,
                              const std::vector<int32_t>& breaks) const {
  StreamStep step{.layout = stream.layout,
                  .state = stream.state->data(),
                  .cursor = &stream.cursor,
                  .write = {},
                  .read = {.budget = std::clamp(memory().budget, 1,
                                                std::max(1, stream.layout->shape.max_selected)),
                           .gain = 0,
                           .floor = -INFINITY}};
  for (const int32_t id : tokens) step.tokens.push_back({.id = id});
  for (const int32_t index : breaks) step.tokens[index].starts_segment = true;
  return step;
}

std::vector<float> ModelHarness::Run(TestStream& stream, const std::vector<int32_t>& tokens,
                                     const std::vector<int32_t>& breaks) {
  std::vector<float> logits;
  StreamStep step = Step(stream, tokens, breaks);
  step.logits = &logits;
  OrDie(model_->Step({&step, 1}));
  return logits;
}

std::vector<int32_t> ModelHarness::EntryPositions(const TestStream& stream) {
  std::vector<int64_t> positions(stream.layout->shape.capacity);
  RASQ_CHECK(ops_->CopyToHost(positions.data(),
                              stream.state->data() + stream.layout->entry_position,
                              static_cast<int64_t>(positions.size() * sizeof(int64_t)))
                 .ok());
  // Empty ones last, as the reference sorts them.
  std::sort(positions.begin(), positions.end(), [](int64_t a, int64_t b) {
    return static_cast<uint64_t>(a) < static_cast<uint64_t>(b);
  });
  return {positions.begin(), positions.end()};
}

TensorView Expected(const SafetensorsFile& file, const std::string& name) {
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end()) std::fprintf(stderr, "no tensor %s\n", name.c_str());
  RASQ_CHECK(found != file.tensors().end());
  return found->second;
}

double RelativeError(const float* got, const float* want, int64_t count) {
  double largest = 0, difference = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::abs(double{want[i]}));
    const double d = std::abs(double{got[i]} - want[i]);
    difference = std::isnan(d) ? INFINITY : std::max(difference, d);
  }
  return difference / largest;
}

}  // namespace rasq::testing
