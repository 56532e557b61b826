// The flags of a generation, shared by `ask` and `chat`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/commands/flags.h"
#include "client/commands/prompt_template.h"
#include "rasq/v1/session.pb.h"

namespace rasq::client {

class GenerateFlags {
 public:
  void AddTo(FlagSet* flags);
  // After Parse: everything but the session and the prompt. A usage error names the flag.
  absl::Status Fill(v1::GenerateRequest* request) const;
  absl::StatusOr<PromptTemplate> prompt_template() const;

 private:
  double temperature_ = 0;
  int32_t top_k_ = 0;
  double top_p_ = 0;
  double min_p_ = 0;
  double repetition_penalty_ = 0;
  double presence_penalty_ = 0;
  double frequency_penalty_ = 0;
  std::optional<int64_t> seed_;
  int32_t max_new_tokens_ = 0;
  int32_t min_new_tokens_ = 0;
  std::vector<std::string> stop_;
  std::vector<std::string> stop_token_ids_;
  bool ignore_eos_ = false;
  bool include_stop_ = false;
  int32_t logprobs_ = 0;
  int32_t evidence_ = 0;
  std::string template_ = "qa";
  bool raw_ = false;
};

}  // namespace rasq::client
