#include "tests/support/engine_harness.h"

#include <cstdio>
#include <random>
#include <utility>

#include "kernels/base/status.h"
#include "tests/support/backends.h"
#include "tests/support/model_harness.h"

namespace rasq::testing {

std::vector<int32_t> Answer::ids() const {
  std::vector<int32_t> ids;
  for (const GeneratedToken& token : tokens) ids.push_back(token.token_id);
  return ids;
}

void CollectingSink::OnChunk(GenerateChunk chunk) {
  MutexLock lock(mu_);
  answer_.text += chunk.text;
  answer_.tokens.insert(answer_.tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
  changed_.SignalAll();
}

void CollectingSink::OnDone(absl::StatusOr<GenerateSummary> summary) {
  MutexLock lock(mu_);
  RASQ_CHECK(!done_);  // the end comes once
  done_ = true;
  status_ = summary.status();
  if (summary.ok()) answer_.summary = *std::move(summary);
  changed_.SignalAll();
}

absl::StatusOr<Answer> CollectingSink::Wait() {
  MutexLock lock(mu_);
  while (!done_) changed_.Wait(mu_);
  RASQ_RETURN_IF_ERROR(status_);
  return answer_;
}

void CollectingSink::WaitForTokens(size_t count) {
  MutexLock lock(mu_);
  while (!done_ && answer_.tokens.size() < count) changed_.Wait(mu_);
}

EngineOptions ShippedModel(const std::string& backend) {
  return {.model = SourcePath("models/default"),
          .ops = BackendOptions(backend),
          .max_sessions = 8,
          .max_generations = 4,
          .max_full_sessions = 1,
          .full_context_tokens = 2048,
          .entry_type = EntryTypeOf(backend)};
}

std::unique_ptr<Engine> StartEngine(const EngineOptions& options, EngineObserver* observer) {
  auto engine = Engine::Create(options, observer);
  if (!engine.ok()) std::fprintf(stderr, "%s\n", engine.status().ToString().c_str());
  RASQ_CHECK(engine.ok());
  return *std::move(engine);
}

std::string Prose(uint64_t seed, int64_t characters) {
  static const std::vector<std::string> who = {"The miller", "An old sailor", "Her neighbour",
                                               "The clerk of the court", "A pair of swans"};
  static const std::vector<std::string> did = {" waited by", " walked past", " looked over",
                                               " spoke about", " slept near"};
  static const std::vector<std::string> what = {" the empty quay", " a row of poplars",
                                                " the bakery", " the ninth milestone",
                                                " a boat called Heron"};
  static const std::vector<std::string> how = {".", ", as on any other day.",
                                               " until the bell rang.", ", and said little.\n",
                                               "; it was late."};
  std::mt19937_64 random(seed);
  const auto pick = [&](const std::vector<std::string>& from) {
    return from[random() % from.size()];
  };
  std::string text;
  while (static_cast<int64_t>(text.size()) < characters) {
    text += pick(who) + pick(did) + pick(what) + pick(how) + " ";
  }
  return text;
}

}  // namespace rasq::testing
