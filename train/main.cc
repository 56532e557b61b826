// The `rasq-train` program.
#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

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

// Shapes of a new adapter (init, convert).
ABSL_FLAG(std::vector<std::string>, retrieval_layers, {},
          "Layers that retrieve, as 4,8,12; empty: every fourth from max(1, layers / 8) on.");
ABSL_FLAG(int32_t, capacity, 4096, "Entries that the memory holds.");
ABSL_FLAG(int32_t, budget, 512, "Entries that a segment may read.");
ABSL_FLAG(int32_t, index_dim, 0, "Width of the index; 0: 128, or all kv heads' if that is less.");
ABSL_FLAG(int32_t, compressed_dim, 0, "Width of an entry's keys and values; 0: half a head.");
ABSL_FLAG(int32_t, window, 448, "Tokens before a segment that are read exactly.");
ABSL_FLAG(int32_t, segment, 64, "Tokens that share a retrieval.");
ABSL_FLAG(int32_t, sinks, 4, "First tokens, which are read for ever.");
ABSL_FLAG(int64_t, calibration_tokens, 16384, "Tokens of text that a new adapter is fitted to.");
ABSL_FLAG(int32_t, vocab, 8192, "Tokens of a new tokenizer.");

namespace rasq::train {
namespace {

constexpr char kUsage[] =
    "Trains models for Rasq.\n\n"
    "  rasq-train pretrain --model DIR --recipe FILE --data DIR --output DIR\n"
    "      new weights of the shapes that DIR's configs ask for\n"
    "  rasq-train tune --model DIR --recipe FILE --data DIR --output DIR\n"
    "      goes on from DIR's weights\n"
    "  rasq-train init --model DIR --data DIR --output DIR\n"
    "      an adapter without training, for a decoder that has none\n"
    "  rasq-train convert --model DIR --recipe FILE --data DIR --output DIR\n"
    "      goes on from such an adapter, which it makes if there is none; see models/recipes\n"
    "  rasq-train tokenizer --data DIR --vocab N --output DIR\n"
    "      a byte-level BPE vocabulary\n"
    "  rasq-train plot --output DIR\n"
    "      curves.svg and curves.png of a run, by gnuplot\n"
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
                            .log_steps = absl::GetFlag(FLAGS_log_steps),
                            .adapter = {.segment = absl::GetFlag(FLAGS_segment),
                                        .window = absl::GetFlag(FLAGS_window),
                                        .sinks = absl::GetFlag(FLAGS_sinks),
                                        .capacity = absl::GetFlag(FLAGS_capacity),
                                        .budget = absl::GetFlag(FLAGS_budget),
                                        .index_dim = absl::GetFlag(FLAGS_index_dim),
                                        .compressed_dim = absl::GetFlag(FLAGS_compressed_dim)},
                            .retrieval_layers = absl::GetFlag(FLAGS_retrieval_layers),
                            .calibration_tokens = absl::GetFlag(FLAGS_calibration_tokens),
                            .vocab = absl::GetFlag(FLAGS_vocab)};
  const absl::Status status = RunCommand(operands[1], flags, stop_asked);
  if (status.ok()) return 0;
  std::fprintf(stderr, "rasq-train %s: %s\n", operands[1], std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace rasq::train

int main(int argc, char** argv) { return rasq::train::Main(argc, argv); }
