// What a session costs through the whole engine: appended and generated tokens per second of the
// shipped model after 4K, 64K and 512K tokens of context, beside the matrix-product ceiling that
// this machine reaches in the same run; and bytes per session.
//   append_bench [--dtype=float32|bfloat16|auto] [--lengths=4096,65536,524288] [--threads=N]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/ops.h"
#include "tests/bench/bench.h"
#include "tests/bench/token_costs.h"
#include "tests/support/engine_harness.h"
#include "tests/support/model_harness.h"

namespace rasq {
namespace {

// FLOP/s of a 1024 x 384 x 1024 product in the backend's element type: the best of many.
double MeasureCeiling(const OpsOptions& options) {
  constexpr int64_t kRows = 1024, kIn = 384, kOut = 1024;
  const auto ops = Must(OpenOps(options));
  const std::vector<float> weight(kOut * kIn, 0.01f);
  const auto matrix = Must(ops->PackMatrix(weight.data(), kOut, kIn));
  const auto x = Must(ops->Allocate(kRows * kIn * SizeOf(ops->element())));
  const auto y = Must(ops->Allocate(kRows * kOut * sizeof(float)));
  double best = 1e30;
  for (int i = 0; i < 200; ++i) {
    const Clock::time_point start = Clock::now();
    Must(ops->Gemm({.x = x->data(),
                    .w = matrix.get(),
                    .y = reinterpret_cast<float*>(y->data()),
                    .rows = kRows,
                    .x_stride = kIn,
                    .y_stride = kOut,
                    .accumulate = false}));
    best = std::min(best, SecondsSince(start));
  }
  return 2.0 * kRows * kIn * kOut / best;
}

struct BenchOptions {
  std::string dtype = "auto";
  int threads = 0;
  std::vector<int64_t> lengths = {4096, 65536, 524288};
};

void Run(const BenchOptions& bench) {
  EngineOptions options = testing::ShippedModel(bench.dtype);
  options.ops.threads = bench.threads;
  const double ceiling = MeasureCeiling(options.ops);
  const auto checkpoint = Must(Checkpoint::Open(options.model));
  const auto engine = testing::StartEngine(options);
  const double flops = FlopsPerToken(checkpoint->model(), checkpoint->memory());
  std::printf("device %s, %s; %.1f MFLOP a token; 1024x384x1024 product: %.0f GFLOP/s\n",
              engine->model().device.c_str(), engine->model().dtype.c_str(), flops / 1e6,
              ceiling / 1e9);
  std::printf("bytes per session: %lld\n",
              static_cast<long long>(engine->model().session_state_bytes));
  std::printf("%10s %16s %12s %14s %18s\n", "context", "append tokens/s", "GFLOP/s", "of ceiling",
              "generate tokens/s");

  const std::string session = testing::CreateSession(*engine);
  const std::vector<int32_t> text = engine->tokenizer().Encode(testing::Prose(1, 400'000));
  size_t next = 0;
  const auto append = [&](int64_t tokens) {
    std::vector<int32_t> ids(tokens);
    for (int32_t& id : ids) id = text[next++ % text.size()];
    Must(testing::Append(*engine, session, std::move(ids)));
  };
  constexpr int64_t kMeasured = 8192;
  int64_t context = 0;
  for (const int64_t length : bench.lengths) {
    append(length - context);
    const Clock::time_point start = Clock::now();
    append(kMeasured);
    const double append_rate = kMeasured / SecondsSince(start);
    context = length + kMeasured;

    GenerateRequest request{.session = session, .prompt = std::string(" The")};
    request.stop = {.max_new_tokens = 128, .ignore_eos = true};
    const GenerateSummary summary = Must(testing::Generate(*engine, request)).summary;
    const double decode = absl::ToDoubleSeconds(summary.total_time - summary.time_to_first_token);
    std::printf("%10lld %16.0f %12.0f %13.0f%% %18.0f\n", static_cast<long long>(length),
                append_rate, append_rate * flops / 1e9, 100 * append_rate * flops / ceiling,
                127 / decode);
  }
}

}  // namespace
}  // namespace rasq

int main(int argc, char** argv) {
  rasq::BenchOptions options;
  rasq::ParseFlags(argc, argv,
                   {{"--dtype", &options.dtype},
                    {"--threads", &options.threads},
                    {"--lengths", &options.lengths}});
  rasq::Run(options);
}
