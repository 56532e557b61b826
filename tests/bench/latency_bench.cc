// What appends do to those who wait for tokens: time from token to token of 1 and 4 generations of
// the shipped model on the processor, without appends and while 8 sessions append as fast as the
// engine takes it; and appended tokens per second beside generations and alone.
//   latency_bench [--dtype=float32|bfloat16|auto] [--tokens=400] [--rounds=3] [--threads=N]
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "engine/engine.h"
#include "kernels/base/mutex.h"
#include "kernels/base/status.h"
#include "tests/bench/bench.h"
#include "tests/support/engine_harness.h"

namespace rasq {
namespace {

constexpr int kAppenders = 8;
constexpr int64_t kBlock = 2048;    // tokens of one append
constexpr int64_t kContext = 2048;  // tokens that a generation starts from

struct BenchOptions {
  std::string dtype = "auto";
  int threads = 0;
  int tokens = 400;  // of a generation
  int rounds = 3;    // without and with appends, in turn: the machine's other load hits both
};

class Latencies : public EngineObserver {
 public:
  void OnStep(StepKind kind, absl::Duration, int32_t tokens) override {
    MutexLock lock(mu_);
    if (kind == StepKind::kMixed) mixed_tokens_.push_back(tokens);
  }
  void OnNextToken(absl::Duration since_last) override {
    MutexLock lock(mu_);
    times_.push_back(absl::ToDoubleMilliseconds(since_last));
  }

  void MoveTo(std::vector<double>& all) {
    MutexLock lock(mu_);
    all.insert(all.end(), times_.begin(), times_.end());
    times_.clear();
  }
  // Tokens of the steps with both decoding and appends, since the last call.
  std::vector<double> TakeMixedTokens() {
    MutexLock lock(mu_);
    return std::exchange(mixed_tokens_, {});
  }

 private:
  Mutex mu_;
  std::vector<double> times_ ABSL_GUARDED_BY(mu_);
  std::vector<double> mixed_tokens_ ABSL_GUARDED_BY(mu_);
};

class Bench {
 public:
  explicit Bench(const BenchOptions& bench) : bench_(bench) {
    EngineOptions options = testing::ShippedModel(bench.dtype);
    options.max_sessions = 16;
    options.ops.threads = bench.threads;
    engine_ = testing::StartEngine(options, &latencies_);
    text_ = engine_->tokenizer().Encode(testing::Prose(1, 200'000));
    for (int i = 0; i < 4; ++i) {
      readers_.push_back(testing::CreateSession(*engine_));
      Append(readers_.back(), kContext);
    }
    for (int i = 0; i < kAppenders; ++i) writers_.push_back(testing::CreateSession(*engine_));
  }

  void Run() {
    std::printf("device %s, %s\n", engine_->model().device.c_str(), engine_->model().dtype.c_str());
    std::printf("%12s %9s %10s %10s %10s %10s %16s\n", "generations", "appends", "p50 ms", "p99 ms",
                "p50 ratio", "p99 ratio", "append tokens/s");
    const double alone = AppendRate([] { absl::SleepFor(absl::Seconds(3)); });
    std::printf("%12d %9s %10s %10s %10s %10s %16.0f\n", 0, "yes", "-", "-", "-", "-", alone);
    for (const int generations : {1, 4}) {
      std::vector<double> without, with;
      double rate = 0;
      for (int round = 0; round < bench_.rounds; ++round) {
        Generate(generations, without);
        rate += AppendRate([&] { Generate(generations, with); }) / bench_.rounds;
      }
      const std::vector<double> mixed = latencies_.TakeMixedTokens();
      const double p50 = Quantile(without, 0.5), p99 = Quantile(without, 0.99);
      std::printf("%12d %9s %10.2f %10.2f %10s %10s %16s\n", generations, "no", p50, p99, "-", "-",
                  "-");
      std::printf("%12d %9s %10.2f %10.2f %10.2f %10.2f %10.0f (%2.0f%%)\n", generations, "yes",
                  Quantile(with, 0.5), Quantile(with, 0.99), Quantile(with, 0.5) / p50,
                  Quantile(with, 0.99) / p99, rate, 100 * rate / alone);
      if (!mixed.empty()) {
        std::printf("%22s tokens of a mixed step: p50 %.0f, p99 %.0f, most %.0f\n", "",
                    Quantile(mixed, 0.5), Quantile(mixed, 0.99), Quantile(mixed, 1));
      }
      std::fflush(stdout);
    }
  }

 private:
  void Append(const std::string& session, int64_t tokens) {
    std::vector<int32_t> ids(tokens);
    for (int32_t& id : ids) id = text_[next_++ % text_.size()];
    Must(testing::Append(*engine_, session, std::move(ids)));
  }

  void Generate(int generations, std::vector<double>& times) {
    std::vector<double> warm;
    latencies_.MoveTo(warm);
    std::vector<std::shared_ptr<testing::CollectingSink>> sinks;
    for (int i = 0; i < generations; ++i) {
      GenerateRequest request{.session = readers_[i], .prompt = std::string(" The")};
      request.stop = {.max_new_tokens = bench_.tokens, .ignore_eos = true};
      sinks.push_back(std::make_shared<testing::CollectingSink>());
      Must(engine_->Generate(request, sinks.back()));
    }
    for (const auto& sink : sinks) Must(sink->Wait());
    latencies_.MoveTo(times);
  }

  // Tokens that the writers append per second while `work` runs.
  template <typename Work>
  double AppendRate(const Work& work) {
    std::atomic<bool> stop = false;
    std::vector<std::thread> threads;
    for (const std::string& writer : writers_) {
      threads.emplace_back([&] {
        while (!stop) Append(writer, kBlock);
      });
    }
    while (engine_->Stats().backlog_tokens < kAppenders * kBlock / 2) std::this_thread::yield();
    const int64_t before = engine_->Stats().appended_tokens;
    const Clock::time_point start = Clock::now();
    work();
    const double seconds = SecondsSince(start);
    const int64_t appended = engine_->Stats().appended_tokens - before;
    stop = true;
    for (std::thread& thread : threads) thread.join();
    return static_cast<double>(appended) / seconds;
  }

  const BenchOptions bench_;
  Latencies latencies_;
  std::unique_ptr<Engine> engine_;
  std::vector<int32_t> text_;
  std::atomic<size_t> next_ = 0;
  std::vector<std::string> readers_, writers_;
};

}  // namespace
}  // namespace rasq

int main(int argc, char** argv) {
  rasq::BenchOptions options;
  rasq::ParseFlags(argc, argv,
                   {{"--dtype", &options.dtype},
                    {"--threads", &options.threads},
                    {"--tokens", &options.tokens},
                    {"--rounds", &options.rounds}});
  RASQ_CHECK(options.tokens > 1 && options.rounds > 0);
  rasq::Bench(options).Run();
}
