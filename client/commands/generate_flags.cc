#include "client/commands/generate_flags.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace rasq::client {

void GenerateFlags::AddTo(FlagSet* flags) {
  flags->Add("template", 't', &template_,
             "qa|raw: \"Question: ... Answer:\" and one line back, or the prompt as it is");
  flags->Add("raw", 0, &raw_, "the same as --template raw");
  flags->Add("evidence", 'e', &evidence_, "N pieces of context that were read, shown; 0: none");
  flags->Add("temperature", 0, &temperature_, "T of sampling; 0: greedy");
  flags->Add("top-k", 0, &top_k_, "K most probable tokens alone; 0: off");
  flags->Add("top-p", 0, &top_p_, "P of probability alone; 0 or 1: off");
  flags->Add("min-p", 0, &min_p_, "P times the best token's probability at least; 0: off");
  flags->Add("repetition-penalty", 0, &repetition_penalty_, "X; 0 or 1: off");
  flags->Add("presence-penalty", 0, &presence_penalty_, "X; 0: off");
  flags->Add("frequency-penalty", 0, &frequency_penalty_, "X; 0: off");
  flags->Add("seed", 0, &seed_, "N of sampling; none: the session's");
  flags->Add("max-new-tokens", 'n', &max_new_tokens_, "N; 0: the server's default");
  flags->Add("min-new-tokens", 0, &min_new_tokens_, "N before anything may stop it");
  flags->Add("stop", 0, &stop_, "TEXT that ends the output; may be given again");
  flags->Add("stop-token-id", 0, &stop_token_ids_, "N of a token that ends it; may be given again");
  flags->Add("ignore-eos", 0, &ignore_eos_, "go on past the model's end of text");
  flags->Add("include-stop", 0, &include_stop_, "keep the stop string in the output");
  flags->Add("logprobs", 0, &logprobs_, "N alternatives a token (with -o json); 0: none");
}

absl::StatusOr<PromptTemplate> GenerateFlags::prompt_template() const {
  return ParsePromptTemplate(raw_ ? "raw" : template_);
}

absl::Status GenerateFlags::Fill(v1::GenerateRequest* request) const {
  v1::SamplingOptions& sampling = *request->mutable_sampling();
  sampling.set_temperature(temperature_);
  sampling.set_top_k(top_k_);
  sampling.set_top_p(top_p_);
  sampling.set_min_p(min_p_);
  sampling.set_repetition_penalty(repetition_penalty_);
  sampling.set_presence_penalty(presence_penalty_);
  sampling.set_frequency_penalty(frequency_penalty_);
  if (seed_.has_value()) sampling.set_seed(*seed_);
  v1::StopOptions& stop = *request->mutable_stop();
  stop.set_max_new_tokens(max_new_tokens_);
  stop.set_min_new_tokens(min_new_tokens_);
  for (const std::string& text : stop_) stop.add_stop_strings(text);
  for (const std::string& text : stop_token_ids_) {
    int32_t id;
    if (!absl::SimpleAtoi(text, &id)) {
      return UsageError(absl::StrCat("--stop-token-id=", text, ": not a token id"));
    }
    stop.add_stop_token_ids(id);
  }
  stop.set_ignore_eos(ignore_eos_);
  stop.set_include_stop(include_stop_);
  request->set_logprobs(logprobs_);
  request->set_evidence(evidence_);
  return absl::OkStatus();
}

}  // namespace rasq::client
