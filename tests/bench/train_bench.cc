// A training step's parts and its tokens/s, on random tokens, beside the product ceiling of the
// same run. Each part is the median of several steps.
//   train_bench [DEVICE=cuda] [STREAMS=32] [TOKENS=4096] [MODEL=models/default] [CAPACITY=1024]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "train/batch.h"
#include "train/decoder.h"
#include "train/objective.h"
#include "train/optimizer.h"
#include "train/replicas.h"

namespace rasq::train {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kSteps = 7;
constexpr int64_t kAnswers = 8;  // of a stream

void Synchronize(const torch::Device& device) {
  if (device.is_cuda()) torch::cuda::synchronize(device.index());
}

double Seconds(const torch::Device& device, const std::function<void()>& work) {
  Synchronize(device);
  const auto start = Clock::now();
  work();
  Synchronize(device);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// FLOP/s of a large product in the type that training computes in.
double Ceiling(const torch::Device& device, torch::ScalarType type) {
  const int64_t n = device.is_cuda() ? 8192 : 1024;
  const Tensor a = torch::randn({n, n}, torch::TensorOptions(device).dtype(type));
  std::vector<double> times;
  for (int i = 0; i < kSteps; ++i) {
    times.push_back(Seconds(device, [&] { (void)torch::matmul(a, a); }));
  }
  return 2.0 * static_cast<double>(n) * n * n / Median(times);
}

TrainingStream RandomStream(const Decoder& decoder, int64_t tokens) {
  const Tensor ids = torch::randint(decoder.model().vocab, {tokens}, torch::kInt32);
  TrainingStream stream;
  stream.tokens.assign(ids.data_ptr<int32_t>(), ids.data_ptr<int32_t>() + tokens);
  stream.weights.assign(tokens, 1);
  const int32_t segment = decoder.memory().segment;
  for (int64_t i = 0; i < kAnswers; ++i) {
    const auto begin = static_cast<int32_t>(tokens - (i + 1) * segment + 1);
    stream.evidence.push_back({begin / segment, {5, 6, 7}});
    stream.answers.push_back({begin, begin + 4, 0});
  }
  return stream;
}

int Main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "cuda";
  const int64_t streams = argc > 2 ? std::stoll(argv[2]) : 32;
  const int64_t tokens = argc > 3 ? std::stoll(argv[3]) : 4096;
  const std::string model = argc > 4 ? argv[4] : "models/default";
  const int64_t capacity = argc > 5 ? std::stoll(argv[5]) : 1024;
  const auto devices = ParseDevices(name);
  const auto checkpoint = Checkpoint::Open(model, LoadFormat::kDummy);
  if (!devices.ok() || !checkpoint.ok()) {
    std::fprintf(stderr, "%s %s\n", devices.status().ToString().c_str(),
                 checkpoint.status().ToString().c_str());
    return 1;
  }
  const torch::Device device = devices->front();
  const torch::ScalarType compute = device.is_cuda() ? torch::kBFloat16 : torch::kFloat32;
  Decoder decoder = Decoder::Make((*checkpoint)->model(), (*checkpoint)->memory());
  decoder.MoveTo(device);
  Optimizer optimizer(decoder.parameters(), {});
  std::vector<TrainingStream> random;
  for (int64_t i = 0; i < streams; ++i) random.push_back(RandomStream(decoder, tokens));
  Batch batch;
  std::vector<double> upload, forward, backward, update;
  for (int i = 0; i < kSteps; ++i) {
    upload.push_back(Seconds(device, [&] { batch = MakeBatch(random, device); }));
    ForwardOptions options{.compute = compute, .capacity = capacity, .compression_loss = true};
    Objective objective;
    forward.push_back(
        Seconds(device, [&] { objective = ComputeObjective(decoder, batch, Phase(), options); }));
    backward.push_back(Seconds(device, [&] { objective.total.backward(); }));
    update.push_back(Seconds(device, [&] {
      optimizer.Step(optimizer.FlatGradient(), 0.1);
      optimizer.ClearGradients();
    }));
  }
  const double step = Median(upload) + Median(forward) + Median(backward) + Median(update);
  int64_t products = 0;
  for (const auto& [unused, tensor] : decoder.parameters()) products += tensor.numel();
  const double flops = 6.0 * static_cast<double>(products * streams * tokens);
  const double ceiling = Ceiling(device, compute);
  std::printf("%ld streams of %ld tokens, capacity %ld, %s\n", streams, tokens, capacity,
              name.c_str());
  std::printf("upload %.1f  forward %.1f  backward %.1f  update %.1f ms\n", Median(upload) * 1e3,
              Median(forward) * 1e3, Median(backward) * 1e3, Median(update) * 1e3);
  std::printf("%.0f tokens/s; 6 x parameters x tokens: %.1f TFLOP/s, %.0f %% of a product's %.1f\n",
              static_cast<double>(streams * tokens) / step, flops / step / 1e12,
              100 * flops / step / ceiling, ceiling / 1e12);
  return 0;
}

}  // namespace
}  // namespace rasq::train

int main(int argc, char** argv) { return rasq::train::Main(argc, argv); }
