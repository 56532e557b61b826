#include "train/recipe.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/budget_factors.h"
#include "engine/memory_limits.h"
#include "kernels/base/status.h"

namespace rasq::train {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 50;

template <typename Value>
Value Choice(FieldReader& fields, const char* name, const std::map<std::string, Value>& values,
             const std::string& fallback) {
  const std::string word = fields.String(name, fallback);
  const auto found = values.find(word);
  if (found != values.end()) return found->second;
  std::string known;
  for (const auto& [value, unused] : values)
    absl::StrAppend(&known, known.empty() ? "" : ", ", value);
  fields.Bad(name, Json(word), absl::StrCat("one of ", known));
  return values.begin()->second;
}

absl::StatusOr<LossWeights> ParseLoss(const Json& json, const std::string& where) {
  FieldReader fields(json, where);
  LossWeights loss;
  const auto read = [&](const char* name, double* weight) {
    *weight = fields.Number(name, 0, 1000, *weight);
  };
  read("task", &loss.task);
  read("retrieval", &loss.retrieval);
  read("compression", &loss.compression);
  read("gate", &loss.gate);
  read("keep", &loss.keep);
  read("budget", &loss.budget);
  read("policy", &loss.policy);
  RASQ_RETURN_IF_ERROR(fields.status());
  return loss;
}

absl::StatusOr<Phase> ParsePhase(const Json& json, const std::string& where) {
  FieldReader fields(json, where);
  Phase phase;
  phase.name = fields.String("name", "");
  phase.tokens = fields.Int("tokens", 1, kMaxTokens);
  phase.stream_tokens = fields.Int("stream_tokens", 1, 1 << 24);
  phase.streams = fields.Int("streams", 1, 1 << 20);
  phase.accumulate = fields.Int("accumulate", 1, 1 << 20, phase.accumulate);
  phase.full_attention_share = fields.Number("full_attention_share", 0, 1, 0);
  phase.trains = Choice<Trains>(
      fields, "trains",
      {{"all", Trains::kAll}, {"adapter", Trains::kAdapter}, {"decoder", Trains::kDecoder}}, "all");
  phase.teacher = Choice<Teacher>(
      fields, "teacher", {{"none", Teacher::kNone}, {"full_attention", Teacher::kFullAttention}},
      "none");
  phase.teacher_segments = fields.Int("teacher_segments", 1, 1 << 20, phase.teacher_segments);
  phase.policy = Choice<PolicyMethod>(fields, "policy",
                                      {{"none", PolicyMethod::kNone},
                                       {"reinforce", PolicyMethod::kReinforce},
                                       {"ppo", PolicyMethod::kPpo}},
                                      "none");
  if (phase.teacher != Teacher::kNone &&
      (phase.full_attention_share > 0 || phase.policy != PolicyMethod::kNone)) {
    fields.Bad("teacher", Json("full_attention"),
               "none where there is a policy or a full_attention_share");
  }
  phase.temperature = fields.Number("temperature", 1e-3, 100, phase.temperature);
  phase.ppo_epochs = fields.Int("ppo_epochs", 1, 100, phase.ppo_epochs);
  phase.ppo_clip = fields.Number("ppo_clip", 0, 1, phase.ppo_clip);
  if (const Json* capacities = fields.Find("capacities")) {
    phase.capacities.clear();
    if (!capacities->is_array() || capacities->empty()) {
      fields.Bad("capacities", *capacities, "a list of entries, 0 for no bound");
    } else {
      for (const Json& item : *capacities) {
        const auto entries = FieldReader::AsInt(item);
        if (!entries || *entries < 0) fields.Bad("capacities", item, "0 or more entries");
        phase.capacities.push_back(entries.value_or(0));
      }
    }
  }
  if (const Json* mixture = fields.Find("mixture")) phase.mixture = *mixture;
  if (const Json* loss = fields.Find("loss")) {
    if (!loss->is_object()) {
      fields.Bad("loss", *loss, "an object");
    } else {
      RASQ_ASSIGN_OR_RETURN(phase.loss, ParseLoss(*loss, absl::StrCat(where, ": loss")));
    }
  }
  RASQ_RETURN_IF_ERROR(fields.status());
  return phase;
}

// A field that says nothing without another.
void Needs(FieldReader& fields, const char* name, const char* other) {
  if (fields.Has(name) && !fields.Has(other)) {
    fields.Bad(name, *fields.Find(name), absl::StrCat("together with ", other));
  }
}

void ReadMemoryFields(FieldReader& fields, Recipe& recipe) {
  recipe.budget_factors = ReadBudgetFactors(fields);
  recipe.summary_slots =
      static_cast<int32_t>(fields.Int("summary_slots", 0, kMaxSummaries, recipe.summary_slots));
  recipe.summary_decay =
      static_cast<float>(fields.Number("summary_decay", 0, kMaxSummaryDecay, recipe.summary_decay));
  Needs(fields, "summary_decay", "summary_slots");
  const auto read = [&](const char* name, int64_t min, int64_t max) -> std::optional<int32_t> {
    if (!fields.Has(name)) return std::nullopt;
    return static_cast<int32_t>(fields.Int(name, min, max));
  };
  recipe.clusters = read("clusters", 0, kMaxMemoryClusters);
  recipe.read_clusters = read("read_clusters", 1, kMaxMemoryClusters);
  recipe.cluster_min_entries = read("cluster_min_entries", 0, kMaxMemoryTokens);
  Needs(fields, "read_clusters", "clusters");
  Needs(fields, "cluster_min_entries", "clusters");
  if (recipe.summary_slots > 0 && recipe.clusters.value_or(0) > 0) {
    fields.Bad("summary_slots", recipe.summary_slots, "0 with clusters");
  }
}

}  // namespace

int64_t Recipe::tokens() const {
  int64_t sum = 0;
  for (const Phase& phase : phases) sum += phase.tokens;
  return sum;
}

double Recipe::RateFactor(int64_t tokens_seen) const {
  const auto share = [](int64_t done, int64_t whole) {
    return std::clamp(static_cast<double>(done) / static_cast<double>(std::max<int64_t>(whole, 1)),
                      0.0, 1.0);
  };
  if (tokens_seen < warmup_tokens) return share(tokens_seen, warmup_tokens);
  const int64_t left = tokens() - tokens_seen;
  if (left >= decay_tokens) return 1;
  return std::max(final_rate, share(left, decay_tokens));
}

absl::StatusOr<Recipe> ParseRecipe(absl::string_view text, absl::string_view where) {
  RASQ_ASSIGN_OR_RETURN(const Json json, ParseJson(text, where));
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": must be an object"));
  }
  FieldReader fields(json, where);
  Recipe recipe;
  recipe.seed = fields.Int("seed", 0, kMaxTokens, recipe.seed);
  recipe.warmup_tokens = fields.Int("warmup_tokens", 0, kMaxTokens, 0);
  recipe.decay_tokens = fields.Int("decay_tokens", 0, kMaxTokens, 0);
  recipe.final_rate = fields.Number("final_rate", 0, 1, recipe.final_rate);
  OptimizerOptions& optimizer = recipe.optimizer;
  optimizer.matrix_rate = fields.Number("matrix_rate", 0, 10, optimizer.matrix_rate);
  optimizer.momentum = fields.Number("momentum", 0, 1, optimizer.momentum);
  optimizer.matrix_decay = fields.Number("matrix_decay", 0, 10, optimizer.matrix_decay);
  optimizer.rate = fields.Number("rate", 0, 10, optimizer.rate);
  optimizer.decay = fields.Number("decay", 0, 10, optimizer.decay);
  optimizer.max_norm = fields.Number("max_norm", 0, 1e6, optimizer.max_norm);
  ReadMemoryFields(fields, recipe);
  const Json* phases = fields.Find("phases");
  RASQ_RETURN_IF_ERROR(fields.status());
  if (phases == nullptr || !phases->is_array() || phases->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": phases: must be a list of phases"));
  }
  for (size_t i = 0; i < phases->size(); ++i) {
    const std::string place = absl::StrCat(where, ": phases[", i, "]");
    if (!(*phases)[i].is_object()) {
      return absl::InvalidArgumentError(absl::StrCat(place, ": must be an object"));
    }
    RASQ_ASSIGN_OR_RETURN(Phase phase, ParsePhase((*phases)[i], place));
    recipe.phases.push_back(std::move(phase));
  }
  return recipe;
}

}  // namespace rasq::train
