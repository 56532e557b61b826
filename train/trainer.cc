#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/tasks/random.h"
#include "kernels/base/status.h"
#include "train/batch.h"
#include "train/batch_loader.h"
#include "train/distillation.h"
#include "train/objective.h"
#include "train/policy.h"
#include "train/replicas.h"
#include "train/training_log.h"

namespace rasq::train {
namespace {

using Clock = std::chrono::steady_clock;

// What replicas share.
struct Shared {
  const TrainerOptions& options;
  const Recipe& recipe;
  const TrainingState& state;
  const std::atomic<bool>& stop;
  std::vector<StreamSource> sources;  // [phases]
  std::atomic<int64_t> last_step{std::numeric_limits<int64_t>::max()};
  std::mutex mu;
  absl::Status status;  // the first fault; guarded by mu
  Progress progress;    // of the first replica when it ended

  void Fail(absl::Status fault) {
    const std::lock_guard<std::mutex> lock(mu);
    if (status.ok()) status = std::move(fault);
  }
};

bool IsTrained(Trains trains, const std::string& name) {
  return trains == Trains::kAll || (trains == Trains::kAdapter) == IsAdapterParameter(name);
}

uint64_t Mix(uint64_t seed, uint64_t a, uint64_t b) {
  return tasks::Random(tasks::Random(seed ^ (a << 20)).Next() + b).Next();
}

class ReplicaTrainer {
 public:
  ReplicaTrainer(Shared& shared, const Decoder& initial, Replica& replica, int64_t rank)
      : shared_(shared),
        replica_(replica),
        rank_(rank),
        device_(shared.options.devices[rank]),
        decoder_(initial),
        progress_(shared.state.progress),
        optimizer_state_(shared.state.optimizer),
        log_(rank == 0 ? absl::StrCat(shared.options.output, "/log.jsonl") : "",
             shared.options.task_names) {
    decoder_.MoveTo(device_);
    baseline_.set_means(progress_.baseline);
  }

  absl::Status Run() {
    int64_t end = 0;
    for (size_t i = 0; i < shared_.recipe.phases.size() && !stopped_; ++i) {
      end += shared_.recipe.phases[i].tokens;
      if (progress_.tokens < end) RunPhase(shared_.recipe.phases[i], shared_.sources[i], end);
    }
    if (rank_ != 0) return absl::OkStatus();
    shared_.progress = progress_;
    return Save();
  }

 private:
  int64_t num_replicas() const { return static_cast<int64_t>(shared_.options.devices.size()); }

  void RunPhase(const Phase& phase, const StreamSource& source, int64_t end);
  void Step(const Phase& phase, BatchLoader& loader);
  void PlayAndLearn(const Phase& phase, const Batch& batch);
  Objective Compute(const Phase& phase, const Batch& batch, const RetrievalProbe& probe);
  uint64_t Draw(uint64_t kind, int64_t part) const;
  bool DrawFullAttention(const Phase& phase) const;
  RetrievalProbe Explore(const Phase& phase, const Batch& batch, int64_t part) const;
  Tensor Advantage(const Phase& phase, const Batch& batch, const Objective& objective);
  void Update();
  void Agree();
  void Report(const Phase& phase);
  absl::Status Save();

  Shared& shared_;
  Replica& replica_;
  const int64_t rank_;
  const torch::Device device_;
  Decoder decoder_;
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<Trains> trained_;
  Progress progress_;
  std::map<std::string, Tensor> optimizer_state_;  // until an optimizer takes it
  RewardBaseline baseline_;
  TrainingLog log_;
  double gradient_norm_ = 0;
  bool stopped_ = false;
  Clock::time_point start_ = Clock::now(), last_ = start_, saved_ = start_;
  int64_t last_tokens_ = 0;
};

void ReplicaTrainer::RunPhase(const Phase& phase, const StreamSource& source, int64_t end) {
  if (trained_ != phase.trains) {
    for (const auto& [name, parameter] : decoder_.parameters()) {
      Tensor(parameter).requires_grad_(IsTrained(phase.trains, name));
    }
    optimizer_ = std::make_unique<Optimizer>(decoder_.parameters(), shared_.recipe.optimizer);
    if (!optimizer_state_.empty()) optimizer_->SetState(std::exchange(optimizer_state_, {}));
    trained_ = phase.trains;
  }
  const int64_t streams = phase.streams * phase.accumulate * num_replicas();
  const int64_t step_tokens = streams * phase.stream_tokens;
  const int64_t steps = (end - progress_.tokens + step_tokens - 1) / step_tokens;
  BatchLoader loader({.make = source,
                      .first = progress_.streams + rank_ * phase.streams,
                      .stride = num_replicas() * phase.streams,
                      .batch = phase.streams,
                      .batches = steps * phase.accumulate,
                      .threads = shared_.options.loader_threads});
  last_ = Clock::now();
  last_tokens_ = progress_.tokens;
  for (int64_t i = 0; i < steps && !stopped_; ++i) {
    Step(phase, loader);
    ++progress_.steps;
    progress_.streams += streams;
    progress_.tokens += step_tokens;
    if (rank_ == 0 && progress_.steps % shared_.options.log_steps == 0) Report(phase);
    Agree();
  }
}

void ReplicaTrainer::Step(const Phase& phase, BatchLoader& loader) {
  const bool full_attention = DrawFullAttention(phase);
  for (int64_t part = 0; part < phase.accumulate; ++part) {
    const Batch batch = MakeBatch(loader.Next(), device_);
    const bool plays = !full_attention && batch.num_rows() > 0;
    if (plays && phase.policy == PolicyMethod::kPpo) {
      PlayAndLearn(phase, batch);
      return;
    }
    const bool explores = plays && phase.policy == PolicyMethod::kReinforce;
    RetrievalProbe probe;
    if (explores) probe = Explore(phase, batch, part);
    if (phase.teacher != Teacher::kNone) {
      probe = DrawSegments(batch.tokens, decoder_.memory(), phase.teacher_segments, Draw(3, part));
    }
    const Objective objective = Compute(phase, batch, probe);
    Tensor loss = objective.total;
    if (explores) {
      loss = loss + phase.loss.policy * ReinforceLoss(objective.log_probability,
                                                      Advantage(phase, batch, objective));
    }
    (loss / static_cast<double>(phase.accumulate)).backward();
    if (rank_ == 0) log_.Add(objective, batch.task);
  }
  Update();
}

// PPO: one batch of episodes, several steps on them.
void ReplicaTrainer::PlayAndLearn(const Phase& phase, const Batch& batch) {
  RetrievalProbe probe = Explore(phase, batch, 0);
  Tensor before, advantage;
  {
    const torch::NoGradGuard no_grad;
    const Objective played = Compute(phase, batch, probe);
    advantage = Advantage(phase, batch, played);
    before = played.log_probability;
    std::vector<Tensor> drawn, choice;
    for (const Retrieval& retrieval : played.retrievals) {
      drawn.push_back(retrieval.drawn);
      if (retrieval.budget_choice.defined()) choice.push_back(retrieval.budget_choice);
    }
    probe.drawn = torch::stack(drawn);
    if (!choice.empty()) probe.budget_choice = torch::stack(choice);
  }
  for (int64_t epoch = 0; epoch < phase.ppo_epochs; ++epoch) {
    const Objective objective = Compute(phase, batch, probe);
    (objective.total +
     phase.loss.policy * PpoLoss(objective.log_probability, before, advantage, phase.ppo_clip))
        .backward();
    if (rank_ == 0 && epoch == 0) log_.Add(objective, batch.task);
    Update();
  }
}

Objective ReplicaTrainer::Compute(const Phase& phase, const Batch& batch,
                                  const RetrievalProbe& probe) {
  const uint64_t draw = Mix(shared_.recipe.seed, progress_.steps, 1);
  ForwardOptions options{.compute = shared_.options.compute,
                         .capacity = phase.capacities[draw % phase.capacities.size()],
                         .compression_loss = phase.loss.compression > 0,
                         .full_attention = DrawFullAttention(phase),
                         .probe = probe};
  return ComputeObjective(decoder_, batch, phase, options);
}

// A seed of this step's, replica's and part's own for each kind of draw.
uint64_t ReplicaTrainer::Draw(uint64_t kind, int64_t part) const {
  return Mix(shared_.recipe.seed + kind, progress_.steps,
             static_cast<uint64_t>(part * num_replicas() + rank_));
}

// The same for all replicas and parts of a step.
bool ReplicaTrainer::DrawFullAttention(const Phase& phase) const {
  return tasks::Random(Mix(shared_.recipe.seed + 5, progress_.steps, 1))
      .Chance(phase.full_attention_share);
}

RetrievalProbe ReplicaTrainer::Explore(const Phase& phase, const Batch& batch, int64_t part) const {
  const auto layers = static_cast<int64_t>(decoder_.memory().retrieval_layers.size());
  RetrievalProbe probe;
  probe.temperature = phase.temperature;
  probe.entry_noise =
      GumbelNoise({layers, batch.num_rows(), batch.tokens.size(1)}, Draw(2, part), device_);
  const auto factors = static_cast<int64_t>(decoder_.memory().budget_factors.size());
  if (factors > 0) {
    probe.budget_noise = GumbelNoise({layers, batch.num_rows(), factors}, Draw(4, part), device_);
  }
  return probe;
}

Tensor ReplicaTrainer::Advantage(const Phase& phase, const Batch& batch,
                                 const Objective& objective) {
  const Tensor reward =
      objective.answer_log_probability.detach() - phase.loss.budget * objective.mean_budget;
  if (rank_ == 0) log_.AddReward(reward, objective.mean_budget);
  return baseline_.Advantage(reward, batch.task);
}

void ReplicaTrainer::Update() {
  Tensor gradient = optimizer_->FlatGradient();
  replica_.Average(gradient);
  const double norm = optimizer_->Step(gradient, shared_.recipe.RateFactor(progress_.tokens));
  optimizer_->ClearGradients();
  gradient_norm_ = norm;
  if (!std::isfinite(norm)) ++progress_.skipped_steps;
}

// The first replica decides when to stop; a few steps ahead, so that all stop after the same one.
void ReplicaTrainer::Agree() {
  constexpr int64_t kAhead = 4;
  if (rank_ == 0) {
    const auto now = Clock::now();
    const bool late = absl::FromChrono(now - start_) >= shared_.options.time_limit;
    if ((late || shared_.stop) && shared_.last_step > progress_.steps + kAhead) {
      shared_.last_step = progress_.steps + (num_replicas() > 1 ? kAhead : 0);
    }
    if (absl::FromChrono(now - saved_) >= shared_.options.save_interval) {
      saved_ = now;
      if (absl::Status saved = Save(); !saved.ok()) shared_.Fail(std::move(saved));
    }
  }
  stopped_ = progress_.steps >= shared_.last_step;
}

void ReplicaTrainer::Report(const Phase& phase) {
  const auto now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - last_).count();
  progress_.seconds += seconds;
  log_.Write(progress_, phase.name, shared_.recipe.RateFactor(progress_.tokens), gradient_norm_,
             static_cast<double>(progress_.tokens - last_tokens_) / std::max(seconds, 1e-9));
  last_ = now;
  last_tokens_ = progress_.tokens;
}

absl::Status ReplicaTrainer::Save() {
  progress_.baseline = baseline_.means();
  return SaveTraining(shared_.options.output, shared_.options.source, decoder_,
                      optimizer_ == nullptr ? shared_.state.optimizer : optimizer_->State(),
                      progress_);
}

// A teacher reads whole streams, and something in them must have left the window.
absl::Status CheckTaught(int64_t stream_tokens, const Decoder& decoder) {
  const int64_t least = (FirstTaughtSegment(decoder.memory()) + 1) * decoder.memory().segment;
  const int64_t most = decoder.model().max_positions;
  if (stream_tokens >= least && stream_tokens <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("stream_tokens=", stream_tokens, ": with teacher=\"full_attention\" in [", least,
                   ", ", most, "], what the model has a past in and was trained for"));
}

}  // namespace

absl::StatusOr<Progress> Train(const TrainerOptions& options, const Recipe& recipe,
                               const Decoder& initial, const TrainingState& state,
                               const StreamFactory& streams, const std::atomic<bool>& stop) {
  Shared shared{.options = options, .recipe = recipe, .state = state, .stop = stop};
  for (const Phase& phase : recipe.phases) {
    if (phase.stream_tokens % initial.memory().segment != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("stream_tokens=", phase.stream_tokens, ": must be a multiple of ",
                       initial.memory().segment, ", the model's segment"));
    }
    if (phase.teacher != Teacher::kNone) {
      RASQ_RETURN_IF_ERROR(CheckTaught(phase.stream_tokens, initial));
    }
    RASQ_ASSIGN_OR_RETURN(StreamSource source, streams(phase));
    shared.sources.push_back(std::move(source));
  }
  // libtorch loads its linear algebra when it is first needed, and not safely from several threads.
  (void)torch::linalg_cholesky(torch::eye(2, options.devices.front()));
  RASQ_ASSIGN_OR_RETURN(auto replicas, JoinReplicas(options.devices));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < replicas.size(); ++i) {
    threads.emplace_back([&, i] {
      try {  // libtorch throws; nothing of it leaves this folder
        const c10::DeviceGuard guard(options.devices[i]);
        ReplicaTrainer trainer(shared, initial, *replicas[i], static_cast<int64_t>(i));
        if (absl::Status status = trainer.Run(); !status.ok()) shared.Fail(std::move(status));
      } catch (const std::exception& error) {
        shared.Fail(absl::InternalError(error.what()));
        if (replicas.size() > 1) {  // the others wait for it in a collective, and always would
          std::fprintf(stderr, "replica %zu: %s\n", i, error.what());
          std::_Exit(1);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (!shared.status.ok()) return shared.status;
  return shared.progress;
}

}  // namespace rasq::train
