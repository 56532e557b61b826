// The `rasq-train` program.
#include <csignal>
#include <cstdio>
#include <string>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "train/commands.h"

ABSL_FLAG(std::string, model, "", "Directory of the model: its configs, tokenizer and weights.");
ABSL_FLAG(std::string, output, "", "Directory of the run; one that holds a run goes on with it.");
ABSL_FLAG(std::string, recipe, "", "JSON file that says what is trained, on what, for how long.");
ABSL_FLAG(std::string, data, "",
          "Directory of texts and questions, as models/README.md lists them.");
ABSL_FLAG(std::string, device, "cpu", "cpu, cuda:N, cuda:all, or several with commas between.");
ABSL_FLAG(std::string, dtype, "auto", "float32 or bfloat16 activations; auto: bfloat16 on a GPU.");
ABSL_FLAG(absl::Duration, time_limit, absl::InfiniteDuration(), "Stop and save after so long.");
ABSL_FLAG(absl::Duration, save_interval, absl::Minutes(10), "Save the run so often.");
ABSL_FLAG(int32_t, loader_threads, 2, "Threads that make training streams, of each device.");
ABSL_FLAG(int64_t, log_steps, 50, "Steps between two lines of the log.");

namespace rasq::train {
namespace {

constexpr char kUsage[] =
    "Trains models for Rasq.\n\n"
    "  rasq-train pretrain --model DIR --recipe FILE --data DIR --output DIR\n"
    "      new weights of the shapes that DIR's configs ask for\n"
    "  rasq-train tune --model DIR --recipe FILE --data DIR --output DIR\n"
    "      goes on from DIR's weights\n"
    "A run that is stopped (--time_limit, SIGINT, SIGTERM) goes on when it is started again.";

std::atomic<bool> stop_asked{false};
void AskToStop(int /*signal*/) { stop_asked = true; }

int Main(int argc, char** argv) {
  absl::SetProgramUsageMessage(kUsage);
  const std::vector<char*> operands = absl::ParseCommandLine(argc, argv);
  std::signal(SIGINT, AskToStop);
  std::signal(SIGTERM, AskToStop);
  if (operands.size() != 2) {
    std::fprintf(stderr, "%s\n", kUsage);
    return 2;
  }
  const TrainingFlags flags{.model = absl::GetFlag(FLAGS_model),
                            .output = absl::GetFlag(FLAGS_output),
                            .recipe = absl::GetFlag(FLAGS_recipe),
                            .data = absl::GetFlag(FLAGS_data),
                            .device = absl::GetFlag(FLAGS_device),
                            .dtype = absl::GetFlag(FLAGS_dtype),
                            .time_limit = absl::GetFlag(FLAGS_time_limit),
                            .save_interval = absl::GetFlag(FLAGS_save_interval),
                            .loader_threads = absl::GetFlag(FLAGS_loader_threads),
                            .log_steps = absl::GetFlag(FLAGS_log_steps)};
  const absl::Status status = RunCommand(operands[1], flags, stop_asked);
  if (status.ok()) return 0;
  std::fprintf(stderr, "rasq-train %s: %s\n", operands[1], std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace rasq::train

int main(int argc, char** argv) { return rasq::train::Main(argc, argv); }
