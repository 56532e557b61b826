#include "train/data/training_data.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "kernels/base/status.h"
#include "train/data/dialogues.h"
#include "train/data/span_questions.h"
#include "train/data/text_file.h"

namespace rasq::train {
namespace {

namespace fs = std::filesystem;

constexpr size_t kHarvestBytes = 1 << 16;  // of each document

template <typename T>
absl::Status Add(absl::StatusOr<std::vector<T>> from, std::vector<T>& to) {
  RASQ_RETURN_IF_ERROR(from.status());
  std::move(from->begin(), from->end(), std::back_inserter(to));
  return absl::OkStatus();
}

absl::Status ReadFile(const std::string& path, tasks::Split split, MixtureData& data,
                      std::vector<Document>& documents) {
  const std::string file_name = fs::path(path).filename().string();
  absl::string_view name = file_name;
  absl::ConsumeSuffix(&name, ".xz");
  if (absl::EndsWith(name, ".txt")) {
    RASQ_ASSIGN_OR_RETURN(const std::string text, ReadText(path));
    for (Document& document : SplitDocuments(text, path)) {
      if (InSplit(split, document.id)) documents.push_back(std::move(document));
    }
  } else if (absl::StartsWith(name, "babi") && absl::EndsWith(name, ".jsonl")) {
    RASQ_RETURN_IF_ERROR(Add(ReadBabi(path, split), data.babi));
  } else if (absl::StartsWith(name, "dialogue_") && absl::EndsWith(name, ".jsonl")) {
    RASQ_RETURN_IF_ERROR(Add(ReadDialogueText(path, split), documents));
    RASQ_RETURN_IF_ERROR(Add(ReadSlotDialogues(path, split), data.dialogues));
  } else if ((absl::StartsWith(name, "qa_") && absl::EndsWith(name, ".jsonl")) ||
             absl::EndsWith(name, ".json")) {
    RASQ_RETURN_IF_ERROR(Add(ReadSpanQuestions(path, split), data.passages));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Document>> ReadFolder(const std::string& directory, tasks::Split split,
                                                 MixtureData& data) {
  std::error_code error;
  std::vector<std::string> paths;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    if (entry.is_regular_file(error)) paths.push_back(entry.path().string());
  }
  if (error) return absl::NotFoundError(absl::StrCat(directory, ": ", error.message()));
  std::sort(paths.begin(), paths.end());

  std::vector<Document> documents;
  for (const std::string& path : paths) {
    RASQ_RETURN_IF_ERROR(ReadFile(path, split, data, documents));
  }
  if (documents.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(directory, ": there is no text"));
  }
  return documents;
}

// From the begin of each document: books have the same words later on.
tasks::Lexicon HarvestWords(const std::vector<Document>& documents) {
  std::vector<absl::string_view> texts;
  texts.reserve(documents.size());
  for (const Document& document : documents) {
    texts.push_back(absl::string_view(document.text).substr(0, kHarvestBytes));
  }
  return tasks::Lexicon::Harvest(texts);
}

}  // namespace

absl::StatusOr<std::vector<Document>> TrainingData::ReadDocuments(const std::string& directory,
                                                                  tasks::Split split) {
  MixtureData unused;
  return ReadFolder(directory, split, unused);
}

absl::StatusOr<std::unique_ptr<TrainingData>> TrainingData::Load(const std::string& directory,
                                                                 const Tokenizer& tokenizer,
                                                                 tasks::Split split,
                                                                 int num_threads) {
  std::unique_ptr<TrainingData> data(new TrainingData);
  data->split_ = split;
  RASQ_ASSIGN_OR_RETURN(const std::vector<Document> documents,
                        ReadFolder(directory, split, data->data_));
  data->corpus_ =
      std::make_unique<Corpus>(Corpus::FromDocuments(documents, tokenizer, num_threads));
  data->data_.tokenizer = &tokenizer;
  data->data_.corpus = data->corpus_.get();
  data->lexicon_ = std::make_unique<tasks::Lexicon>(HarvestWords(documents));
  data->data_.lexicon = data->lexicon_.get();
  return data;
}

absl::StatusOr<std::shared_ptr<const StreamMixture>> TrainingData::Mix(
    const Json& proportions, uint64_t seed, int32_t segment_tokens) const {
  MixtureOptions options{.seed = seed, .split = split_, .segment_tokens = segment_tokens};
  if (!proportions.is_null()) {
    if (!proportions.is_object()) {
      return absl::InvalidArgumentError("mixture: must be an object of tasks and their weights");
    }
    FieldReader fields(proportions, "mixture");
    size_t known = 0;
    for (int32_t task = 0; task < kNumStreamTasks; ++task) {
      const std::string name(StreamTaskName(static_cast<StreamTask>(task)));
      known += proportions.contains(name) ? 1 : 0;
      options.weights[task] = fields.Number(name.c_str(), 0, 1e6, 0);
    }
    RASQ_RETURN_IF_ERROR(fields.status());
    if (known != proportions.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("mixture: of ", ShowJson(proportions), " a task is not known"));
    }
  }
  RASQ_ASSIGN_OR_RETURN(StreamMixture mixture, StreamMixture::Create(data_, options));
  return std::make_shared<const StreamMixture>(std::move(mixture));
}

}  // namespace rasq::train
