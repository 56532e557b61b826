#include "client/eval/evaluation.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace rasq::client {
namespace {

// Sessions go even after Ctrl-C.
ClientOptions CleanerOptions(ClientOptions options) {
  options.cancellation = nullptr;
  options.deadline = absl::Seconds(10);
  return options;
}

}  // namespace

Evaluation::Evaluation(const ClientOptions& client, const RunHeader& header, const TaskSet* tasks,
                       const Haystack* haystack, ResultFile* file)
    : options_(client),
      header_(header),
      tasks_(tasks),
      haystack_(haystack),
      client_(client),
      cleaner_(CleanerOptions(client)),
      file_(file) {
  // Short ones first: their results tell soonest whether the rest is worth its time.
  std::vector<int64_t> lengths = header.lengths;
  std::sort(lengths.begin(), lengths.end());
  progress_.unit = "tokens";
  for (const int64_t length : lengths) {
    for (int64_t stream = 0; stream < header.streams; ++stream) {
      for (const std::string& task : header.tasks) {
        for (const std::string& strategy : header.strategies) {
          for (const std::string& settings : header.settings) {
            StreamKey key{.strategy = strategy,
                          .settings = settings,
                          .task = task,
                          .length = length,
                          .stream = stream};
            if (file->Has(key)) continue;
            streams_.push_back(std::move(key));
            progress_.total += length;
          }
        }
      }
    }
  }
}

Progress Evaluation::progress() {
  const std::lock_guard<std::mutex> lock(mu_);
  progress_.busy = absl::Now() - started_;
  return progress_;
}

absl::StatusOr<StreamRecord> Evaluation::RunOne(const StreamKey& key) {
  const auto settings = std::find(header_.settings.begin(), header_.settings.end(), key.settings);
  const StreamRunOptions options = {
      .max_questions = header_.questions,
      .window_tokens = header_.window_tokens,
      .generate_tokens = header_.generate_tokens,
      .session_options = header_.session_options[settings - header_.settings.begin()],
      .on_tokens =
          [this](int64_t tokens) {
            const std::lock_guard<std::mutex> lock(mu_);
            progress_.done = progress_.tokens += tokens;
          },
      .stop =
          [this] {
            const std::lock_guard<std::mutex> lock(mu_);
            return !status_.ok();
          }};
  return RunStream(&client_, &cleaner_, *tasks_, *haystack_, key, options);
}

void Evaluation::Work() {
  for (;;) {
    StreamKey key;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      if (!status_.ok() || next_ == streams_.size()) return;
      key = streams_[next_++];
    }
    const absl::StatusOr<StreamRecord> record = RunOne(key);
    const std::lock_guard<std::mutex> lock(mu_);
    if (!status_.ok()) return;
    if (record.ok()) {
      if (!record->stream.refused.empty()) progress_.total -= key.length;
      status_ = file_->Add(record->stream, record->questions);
      continue;
    }
    status_ =
        absl::Status(record.status().code(),
                     absl::StrCat(key.Method(), ", ", key.task, ", ", key.length,
                                  " tokens, stream ", key.stream, ": ", record.status().message()));
    record.status().ForEachPayload([&](absl::string_view type, const absl::Cord& payload) {
      status_.SetPayload(type, payload);
    });
  }
}

absl::Status Evaluation::Run() {
  started_ = absl::Now();
  {
    const ProgressReporter reporter([this] { return progress(); });
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < std::min(header_.parallel, num_streams()); ++i) {
      threads.emplace_back([this] { Work(); });
    }
    for (std::thread& thread : threads) thread.join();
  }
  const std::lock_guard<std::mutex> lock(mu_);
  return status_;
}

}  // namespace rasq::client
