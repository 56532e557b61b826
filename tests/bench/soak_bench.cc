// A server under mixed load for as long as one likes: streams at a rate, unary appends, generations
// with and without commit, forks, snapshots and restores, sessions that come and go, calls that
// must be refused; more sessions than slots, durable. Ends with a report, and with 1 if something
// happened that was not provoked, or memory or open files grew.
//   soak_bench SERVER [SECONDS=20]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/mutex.h"
#include "tests/bench/bench.h"
#include "tests/support/engine_harness.h"
#include "tests/support/server_program.h"
#include "tests/support/temporary_directory.h"

namespace rasq {
namespace {

using grpc::StatusCode;

constexpr int kSlots = 4;
constexpr int kSteady = 10;  // sessions that stay, most of them parked at any moment
constexpr int kStreamWordsPerSecond = 100;

double Milliseconds(Clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

// What the clients saw. Any thread may call any method.
class Report {
 public:
  enum Time { kFirstToken, kNextToken, kAppendLag, kUnary, kNumTimes };

  void Add(Time kind, Clock::duration time) {
    MutexLock lock(mu_);
    times_[kind].push_back(static_cast<float>(Milliseconds(time)));
  }
  void Count(const std::string& what, int64_t number = 1) {
    MutexLock lock(mu_);
    counts_[what] += number;
  }
  // True if the call succeeded. `provoked`: codes that the call may well get here.
  bool Ended(const std::string& call, const grpc::Status& status,
             const std::vector<StatusCode>& provoked = {}) {
    if (status.ok()) {
      Count(call);
      return true;
    }
    MutexLock lock(mu_);
    if (std::find(provoked.begin(), provoked.end(), status.error_code()) != provoked.end()) {
      ++refusals_[absl::StrCat(call, " code ", static_cast<int>(status.error_code()))];
    } else {
      ++unexpected_;
      std::printf("unexpected: %s code %d: %s\n", call.c_str(),
                  static_cast<int>(status.error_code()), status.error_message().c_str());
    }
    return false;
  }

  int64_t unexpected() {
    MutexLock lock(mu_);
    return unexpected_;
  }
  void Print() {
    MutexLock lock(mu_);
    for (const auto& [what, number] : counts_) {
      std::printf("%-36s %lld\n", what.c_str(), static_cast<long long>(number));
    }
    for (const auto& [what, number] : refusals_) {
      std::printf("refused as provoked: %-15s %lld\n", what.c_str(),
                  static_cast<long long>(number));
    }
    const char* names[kNumTimes] = {"time to first token", "inter-token latency",
                                    "append lag (stream, to its ack)", "unary append"};
    for (int i = 0; i < kNumTimes; ++i) {
      std::printf("%-36s p50 %.1f ms, p99 %.1f ms of %zu\n", names[i], Quantile(times_[i], 0.5),
                  Quantile(times_[i], 0.99), times_[i].size());
    }
    std::printf("%-36s %lld\n", "unexpected errors", static_cast<long long>(unexpected_));
  }

 private:
  Mutex mu_;
  std::vector<float> times_[kNumTimes] ABSL_GUARDED_BY(mu_);
  std::map<std::string, int64_t> counts_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, int64_t> refusals_ ABSL_GUARDED_BY(mu_);
  int64_t unexpected_ ABSL_GUARDED_BY(mu_) = 0;
};

class Soak {
 public:
  Soak(const std::string& binary, int seconds)
      : seconds_(seconds),
        server_(binary, {"--durable", "--state-dir=" + directory_.path(),
                         absl::StrCat("--max-sessions=", kSlots), "--max-generations=4",
                         "--max-open-sessions=40", "--max-backlog-tokens=20000"}) {}

  int Run() {
    if (!server_.listening()) {
      std::fprintf(stderr, "the server did not start: %s\n", server_.Log().c_str());
      return 1;
    }
    for (int i = 0; i < kSteady; ++i) report_.Ended("create", server_.Create(Steady(i)));
    end_ = Clock::now() + std::chrono::seconds(seconds_);
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) threads.emplace_back([this, i] { Stream(i); });
    threads.emplace_back([this] { Appends(); });
    for (int i = 0; i < 2; ++i) threads.emplace_back([this, i] { Generations(i); });
    threads.emplace_back([this] { Copies(); });
    threads.emplace_back([this] { ComeAndGo(); });
    threads.emplace_back([this] { Provoke(); });
    Watch();
    for (std::thread& thread : threads) thread.join();
    return Finish();
  }

 private:
  static std::string Steady(int i) { return absl::StrCat("steady-", i); }
  bool Over() const { return Clock::now() >= end_; }
  // Not all sessions alike: one in a few calls goes to a session that has long been idle.
  static std::string Pick(std::mt19937_64& random) {
    return Steady(random() % 4 != 0 ? 2 + random() % 2 : 2 + random() % (kSteady - 2));
  }

  // A wire: a line every so often, for ever, on a session of its own; its acks are timed.
  void Stream(int number) {
    uint64_t seed = 1000 * number;
    while (!Over()) {
      grpc::ClientContext context;
      const auto stream = server_.sessions().StreamAppend(&context);
      v1::StreamAppendRequest request;
      request.set_session_id(Steady(number));
      for (int i = 0; i < 200 && !Over(); ++i) {
        request.mutable_content()->set_text(testing::Prose(++seed, 100));
        const auto start = Clock::now();
        const int64_t words =
            std::count(request.content().text().begin(), request.content().text().end(), ' ');
        if (!stream->Write(request)) break;
        // The lines are far enough apart for the ack to come before the next one.
        v1::StreamAppendResponse ack;
        do {
          if (!stream->Read(&ack)) break;
        } while (ack.absorbed_tokens() < ack.accepted_tokens() || ack.accepted_tokens() == 0);
        report_.Add(Report::kAppendLag, Clock::now() - start);
        std::this_thread::sleep_until(
            start + std::chrono::milliseconds(1000 * words / kStreamWordsPerSecond));
      }
      stream->WritesDone();
      v1::StreamAppendResponse ack, last;
      while (stream->Read(&ack)) last = ack;
      report_.Ended("stream", stream->Finish());
    }
  }

  void Appends() {
    std::mt19937_64 random(1);
    while (!Over()) {
      const auto start = Clock::now();
      const int64_t length = random() % 10 == 0 ? 8000 : 20 + random() % 400;
      v1::AppendResponse response;
      if (report_.Ended("append", server_.Append(Pick(random), testing::Prose(random(), length),
                                                 &response))) {
        report_.Add(Report::kUnary, Clock::now() - start);
        report_.Count("tokens appended by unary calls", response.appended_tokens());
      }
      Rest(random, 100);
    }
  }

  void Generations(int number) {
    std::mt19937_64 random(10 + number);
    while (!Over()) {
      v1::GenerateRequest request = Question(Pick(random), 8 + static_cast<int>(random() % 56));
      if (random() % 3 == 0) request.set_commit_output(v1::COMMIT_OUTPUT_COMMIT);
      const bool cancels = random() % 10 == 0;
      grpc::ClientContext context;
      auto last = Clock::now();
      const auto reader = server_.sessions().Generate(&WithDeadline(context, 120), request);
      v1::GenerateResponse response;
      bool first = true;
      while (reader->Read(&response)) {
        const auto now = Clock::now();
        if (response.tokens_size() > 0) {
          report_.Add(first ? Report::kFirstToken : Report::kNextToken, now - last);
          // What came in one message came at once.
          for (int i = 1; i < response.tokens_size(); ++i) {
            report_.Add(Report::kNextToken, Clock::duration::zero());
          }
          report_.Count("tokens generated", response.tokens_size());
          first = false;
          last = now;
        }
        if (cancels) context.TryCancel();
      }
      // Two clients ask the same sessions: one of them may be told that the other is at it.
      report_.Ended("generate", reader->Finish(), {StatusCode::ABORTED, StatusCode::CANCELLED});
      Rest(random, 200);
    }
  }

  // Forks, and snapshots that become sessions; all of these are deleted in the end.
  void Copies() {
    std::mt19937_64 random(20);
    for (int64_t i = 0; !Over(); ++i) {
      const std::string id = absl::StrCat("copy-", i), snapshot = absl::StrCat("snapshot-", i % 3);
      grpc::ClientContext context, save, load;
      if (i % 2 == 0) {
        v1::ForkSessionRequest request;
        request.set_session_id(Pick(random));
        request.set_new_session_id(id);
        v1::ForkSessionResponse response;
        if (!report_.Ended("fork", server_.sessions().ForkSession(&WithDeadline(context, 120),
                                                                  request, &response))) {
          continue;
        }
      } else {
        v1::SnapshotSessionRequest request;
        request.set_session_id(Pick(random));
        request.set_snapshot_id(snapshot);
        v1::SnapshotSessionResponse response;
        report_.Ended("snapshot", server_.sessions().SnapshotSession(&WithDeadline(save, 120),
                                                                     request, &response));
        v1::RestoreSessionRequest restore;
        restore.set_snapshot_id(snapshot);
        restore.set_session_id(id);
        v1::RestoreSessionResponse restored;
        if (!report_.Ended("restore", server_.sessions().RestoreSession(&WithDeadline(load, 120),
                                                                        restore, &restored))) {
          continue;
        }
      }
      report_.Ended("append to a copy", server_.Append(id, testing::Prose(random(), 200)));
      report_.Ended("delete", server_.Delete(id));
      Rest(random, 500);
    }
  }

  void ComeAndGo() {
    std::mt19937_64 random(30);
    for (int64_t i = 0; !Over(); ++i) {
      const std::string id = absl::StrCat("guest-", i);
      report_.Ended("create", server_.Create(id));
      report_.Ended("append of a guest", server_.Append(id, testing::Prose(random(), 300)));
      if (i % 3 == 0) report_.Ended("question of a guest", server_.Generate(Question(id, 4)));
      report_.Ended("delete", server_.Delete(id));
      Rest(random, 200);
    }
  }

  // What has to be refused, and with which code.
  void Provoke() {
    std::mt19937_64 random(40);
    const auto refused = [&](const std::string& call, const grpc::Status& status, StatusCode code) {
      if (status.ok()) {
        report_.Ended(call, grpc::Status(StatusCode::UNKNOWN, "was not refused"));
      } else {
        report_.Ended(call, status, {code});
      }
    };
    while (!Over()) {
      refused("append to nobody", server_.Append("nobody", "Hello? "), StatusCode::NOT_FOUND);
      refused("create again", server_.Create(Steady(0)), StatusCode::ALREADY_EXISTS);
      refused("wrong offset", server_.Append(Steady(9), "x", nullptr, 1 << 30),
              StatusCode::OUT_OF_RANGE);
      refused("full backlog", server_.Append(Steady(2), testing::Prose(random(), 400000)),
              StatusCode::RESOURCE_EXHAUSTED);
      refused("bad name", server_.Create("a name"), StatusCode::INVALID_ARGUMENT);
      Rest(random, 2000);
    }
  }

  void Rest(std::mt19937_64& random, int64_t most) const {
    const auto rest = std::chrono::milliseconds(random() % most);
    std::this_thread::sleep_until(std::min(Clock::now() + rest, end_));
  }

  // Samples memory and files; a hundred and twenty times, or every half second.
  void Watch() {
    const auto period =
        std::max(std::chrono::milliseconds(500), std::chrono::milliseconds(1000 * seconds_ / 120));
    while (!Over()) {
      std::this_thread::sleep_for(period);
      resident_.push_back(static_cast<double>(server_.ResidentBytes()) / (1 << 20));
      files_.push_back(server_.OpenFiles());
      if (!server_.Serving()) report_.Ended("health", grpc::Status(StatusCode::UNKNOWN, "is bad"));
      if (resident_.size() % 12 == 0) {
        std::printf("%5.0f s: %.1f MiB, %d open files, %lld unexpected errors\n",
                    seconds_ - std::chrono::duration<double>(end_ - Clock::now()).count(),
                    resident_.back(), files_.back(), static_cast<long long>(report_.unexpected()));
        std::fflush(stdout);
      }
    }
  }

  template <typename T>
  static T MostOf(const std::vector<T>& samples, int quarter) {
    const size_t begin = samples.size() * (quarter - 1) / 4, end = samples.size() * quarter / 4;
    return *std::max_element(samples.begin() + static_cast<int64_t>(begin),
                             samples.begin() + static_cast<int64_t>(std::max(end, begin + 1)));
  }

  int Finish() {
    int64_t tokens = 0;
    for (int i = 0; i < kSteady; ++i) {
      v1::Session session;
      report_.Ended("get", server_.Get(Steady(i), &session));
      tokens += session.context_tokens();
    }
    const v1::GetServerInfoResponse info = server_.Info();
    std::printf("\n%d seconds; %d sessions open at the end on %d slots\n", seconds_,
                info.sessions_open(), kSlots);
    report_.Count("tokens in the sessions that stayed", tokens);
    if (info.sessions_open() != kSteady) {
      report_.Ended("sessions", grpc::Status(StatusCode::UNKNOWN, "some were not deleted"));
    }
    const int code = server_.Stop();
    report_.Print();
    const double before = MostOf(resident_, 2), after = MostOf(resident_, 4);
    const int files_before = MostOf(files_, 2), files_after = MostOf(files_, 4);
    std::printf("resident memory, most of quarters 1 to 4: %.1f %.1f %.1f %.1f MiB\n",
                MostOf(resident_, 1), before, MostOf(resident_, 3), after);
    std::printf("open files, most of quarters 1 to 4: %d %d %d %d\n", MostOf(files_, 1),
                files_before, MostOf(files_, 3), files_after);
    std::printf("the server's exit code: %d\n", code);
    // A tenth, and what short runs still warm up.
    const bool bounded = after < before * 1.1 + 16 && files_after <= files_before + 16;
    if (!bounded) std::printf("memory or open files grew\n");
    return report_.unexpected() == 0 && bounded && code == 0 ? 0 : 1;
  }

  const int seconds_;
  testing::TemporaryDirectory directory_;
  ServerProgram server_;
  Report report_;
  Clock::time_point end_;
  std::vector<double> resident_;
  std::vector<int> files_;
};

}  // namespace
}  // namespace rasq

int main(int argc, char** argv) {
  int seconds = 20;
  if (argc < 2 || argc > 3 || (argc == 3 && !absl::SimpleAtoi(argv[2], &seconds)) || seconds < 4) {
    std::fprintf(stderr, "soak_bench SERVER [SECONDS=20, at least 4]\n");
    return 2;
  }
  return rasq::Soak(argv[1], seconds).Run();
}
