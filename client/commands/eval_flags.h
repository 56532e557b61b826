// The flags of `rasq eval`, and what they ask for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/commands/flags.h"
#include "client/eval/haystack.h"
#include "client/eval/results.h"
#include "client/eval/settings.h"
#include "client/eval/task_set.h"

namespace rasq::client {

struct EvalFlags {
  std::string tasks;
  std::string lengths = "4096,16384";
  std::string strategies = "rasq";
  std::vector<std::string> session_options;
  std::vector<std::string> sweeps;
  bool skip_defaults = false;
  std::string server;
  std::vector<std::string> server_flags;
  std::string machine;
  std::string split = "held-out";
  std::string results = "eval.jsonl";
  std::vector<std::string> text;
  std::string babi;
  std::string squad;
  std::vector<std::string> ruler;
  int64_t streams = 8;
  int64_t questions = 8;
  int32_t facts = 32;
  int32_t generate_tokens = 64;
  int64_t seed = 1;
  int64_t parallel = 1;
  bool along = false;
  bool all_documents = false;

  void AddTo(FlagSet* flags);
};

// What an evaluation is made of. Of the header the server's part is missing, and the settings'.
struct EvalPlan {
  RunHeader header;
  std::vector<Setting> settings;
  TaskSetOptions tasks;
  Haystack haystack;
};
// Reads the files. Usage errors name the flag, others the file.
absl::StatusOr<EvalPlan> MakePlan(const EvalFlags& flags);

// "4096", "4K", "1M": a number of tokens, K and M being powers of 1024. False if it is none.
bool ParseTokens(absl::string_view text, int64_t* tokens);

}  // namespace rasq::client
