// Who gets how much of the engine: tenants beside each other, quotas, appends beside generations.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/tenants.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/mutex.h"
#include "kernels/stream_attention.h"
#include "tests/support/engine_harness.h"

namespace rasq {
namespace {

using testing::CollectingSink;
using testing::Pending;

ScopedName OpenSession(Engine& engine, const std::string& tenant) {
  const auto session = engine.CreateSession({.tenant = tenant});
  EXPECT_TRUE(session.ok()) << session.status();
  return session.ok() ? ScopedName(tenant, session->id) : ScopedName();
}

void Flood(Engine& engine, const ScopedName& session, int64_t tokens) {
  ASSERT_TRUE(engine
                  .Append({.session = session, .content = std::vector<int32_t>(tokens, 7)},
                          [](const absl::StatusOr<AppendResult>&) {})
                  .ok());
}

GenerateRequest Request(const ScopedName& session, int32_t tokens) {
  GenerateRequest request{.session = session, .prompt = std::vector<int32_t>{5, 6}};
  request.stop = {.max_new_tokens = tokens, .ignore_eos = true};
  return request;
}

// One session of tenant a beside six of tenant b: while both have more to append, b gets `weight`
// times what a gets.
void ExpectShares(int32_t weight) {
  EngineOptions options = testing::ShippedModel();
  options.max_batch_tokens = 256;
  options.tenants = std::make_shared<Tenants>();
  options.tenants->Set({{"b", {.weight = weight}}});
  const auto engine = testing::StartEngine(options);
  std::vector<ScopedName> floods;
  for (int i = 0; i < 6; ++i) floods.push_back(OpenSession(*engine, "b"));
  const ScopedName one = OpenSession(*engine, "a");
  const auto absorbed = [&] {
    int64_t tokens = 0;
    for (const ScopedName& session : floods) tokens += engine->GetSession(session)->context_tokens;
    return tokens;
  };
  constexpr int64_t kFirst = 320, kTokens = 1280;
  for (const ScopedName& session : floods) Flood(*engine, session, weight * (kFirst + kTokens));
  // What b has when a's first tokens and its last ones are in: by then both are under way.
  auto first = std::make_shared<Pending<int64_t>>(), last = std::make_shared<Pending<int64_t>>();
  for (const auto& [tokens, pending] : {std::pair{kFirst, first}, std::pair{kTokens, last}}) {
    ASSERT_TRUE(engine
                    ->Append({.session = one, .content = std::vector<int32_t>(tokens, 7)},
                             [&absorbed, pending](const absl::StatusOr<AppendResult>&) {
                               pending->Set(absorbed());
                             })
                    .ok());
  }
  const int64_t begin = first->Wait(), end = last->Wait();
  EXPECT_NEAR(static_cast<double>(end - begin), static_cast<double>(weight * kTokens),
              0.1 * static_cast<double>(weight * kTokens));
}

TEST(FairnessTest, TenantsShareEquallyThoughOneFloods) { ExpectShares(1); }
TEST(FairnessTest, TenantsShareByWeight) { ExpectShares(3); }

class FakeClock {
 public:
  absl::Time Now() {
    MutexLock lock(mu_);
    return now_;
  }
  void Advance(absl::Duration time) {
    MutexLock lock(mu_);
    now_ += time;
  }

 private:
  Mutex mu_;
  absl::Time now_ ABSL_GUARDED_BY(mu_) = absl::UnixEpoch();
};

TEST(FairnessTest, ATenantOverItsRateWaits) {
  FakeClock clock;
  EngineOptions options = testing::ShippedModel();
  options.tenants = std::make_shared<Tenants>([&clock] { return clock.Now(); });
  options.tenants->Set({{"a", {.appended_tokens_per_second = 100}}});
  const auto engine = testing::StartEngine(options);
  const ScopedName slow = OpenSession(*engine, "a"), other = OpenSession(*engine, "b");
  Pending<bool> done;
  ASSERT_TRUE(
      engine
          ->Append({.session = slow, .content = std::vector<int32_t>(200, 7)},
                   [&done](const absl::StatusOr<AppendResult>& result) { done.Set(result.ok()); })
          .ok());
  // Others are not held up. Of the slow one's, the second segment began within the burst of 100.
  ASSERT_TRUE(testing::Append(*engine, other, std::vector<int32_t>(1024, 7)).ok());
  EXPECT_EQ(engine->GetSession(slow)->context_tokens, 128);
  EXPECT_EQ(engine->GetSession(slow)->backlog_tokens, 72);
  clock.Advance(absl::Seconds(1));
  EXPECT_TRUE(done.Wait());
}

TEST(FairnessTest, GenerationsOverTheirRatePause) {
  FakeClock clock;
  EngineOptions options = testing::ShippedModel();
  options.tenants = std::make_shared<Tenants>([&clock] { return clock.Now(); });
  options.tenants->Set({{"a", {.generated_tokens_per_second = 10}}});
  const auto engine = testing::StartEngine(options);
  const ScopedName slow = OpenSession(*engine, "a"), other = OpenSession(*engine, "b");
  auto sink = std::make_shared<CollectingSink>();
  ASSERT_TRUE(engine->Generate(Request(slow, 80), sink).ok());
  sink->WaitForTokens(60);
  ASSERT_TRUE(testing::Generate(*engine, Request(other, 40)).ok());
  EXPECT_EQ(engine->Stats().generated_tokens, 64 + 40);
  clock.Advance(absl::Seconds(2));
  EXPECT_TRUE(sink->Wait().ok());
}

TEST(FairnessTest, SessionsOfATenantAreLimited) {
  EngineOptions options = testing::ShippedModel();
  options.tenants = std::make_shared<Tenants>();
  options.tenants->Set({{"a", {.max_sessions = 1}}});
  const auto engine = testing::StartEngine(options);
  const ScopedName session = OpenSession(*engine, "a");
  EXPECT_EQ(engine->CreateSession({.tenant = "a"}).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(engine->Stats().sessions_open, 1);  // the refused one has left none behind
  OpenSession(*engine, "b");
  ASSERT_TRUE(testing::DeleteSession(*engine, session).ok());
  OpenSession(*engine, "a");
}

// One place, five generations of b before the only one of a: a waits for two of them at most.
TEST(FairnessTest, TenantsTakeTurnsForPlaces) {
  class Ends : public GenerateSink {
   public:
    Ends(std::string tenant, std::vector<std::string>& order, Pending<bool>* last)
        : tenant_(std::move(tenant)), order_(order), last_(last) {}
    void OnChunk(GenerateChunk) override {}
    void OnDone(absl::StatusOr<GenerateSummary> summary) override {  // on the engine's thread
      order_.push_back(tenant_);
      if (last_ != nullptr) last_->Set(summary.ok());
    }

   private:
    const std::string tenant_;
    std::vector<std::string>& order_;
    Pending<bool>* const last_;
  };
  EngineOptions options = testing::ShippedModel();
  options.max_generations = 1;
  const auto engine = testing::StartEngine(options);
  std::vector<std::string> order;
  Pending<bool> last;
  for (int i = 0; i < 5; ++i) {
    auto sink = std::make_shared<Ends>("b", order, i == 4 ? &last : nullptr);
    ASSERT_TRUE(engine->Generate(Request(OpenSession(*engine, "b"), 30), sink).ok());
  }
  auto sink = std::make_shared<Ends>("a", order, nullptr);
  ASSERT_TRUE(engine->Generate(Request(OpenSession(*engine, "a"), 30), sink).ok());
  EXPECT_TRUE(last.Wait());
  EXPECT_THAT(std::vector<std::string>(order.begin(), order.begin() + 3), ::testing::Contains("a"));
}

class MixedSteps : public EngineObserver {
 public:
  void OnStep(StepKind kind, absl::Duration, int32_t tokens) override {
    MutexLock lock(mu_);
    if (kind == StepKind::kMixed) tokens_.push_back(tokens);
  }

  std::vector<int32_t> tokens() {
    MutexLock lock(mu_);
    return tokens_;
  }

 private:
  Mutex mu_;
  std::vector<int32_t> tokens_ ABSL_GUARDED_BY(mu_);
};

// Rows of the mixed steps of one generation beside appends that never end.
std::vector<int32_t> MixedRows(double slowdown, int32_t tokens) {
  MixedSteps steps;
  EngineOptions options = testing::ShippedModel();
  options.max_batch_tokens = 160;
  options.mixed_step_slowdown = slowdown;
  const auto engine = testing::StartEngine(options, &steps);
  const ScopedName reader = OpenSession(*engine, ""), writer = OpenSession(*engine, "");
  auto sink = std::make_shared<CollectingSink>();
  EXPECT_TRUE(engine->Generate(Request(reader, tokens), sink).ok());
  sink->WaitForTokens(1);
  Flood(*engine, writer, 100'000);
  EXPECT_TRUE(sink->Wait().ok());
  return steps.tokens();
}

// With no slowdown allowed, appends have their share of the time in the smallest pieces, however
// fast the machine is.
TEST(FairnessTest, MixedStepsAreBounded) {
  const std::vector<int32_t> rows = MixedRows(/*slowdown=*/1, /*tokens=*/100);
  EXPECT_FALSE(rows.empty());
  for (const int32_t row : rows) {
    EXPECT_GE(row, 1 + kLeastPartRows);
    EXPECT_LE(row, 1 + kLeastPartRows + 1);  // 64 in seven pieces
  }
}

TEST(FairnessTest, MixedStepsAreWholeWithoutABound) {
  const std::vector<int32_t> rows = MixedRows(/*slowdown=*/0, /*tokens=*/20);
  EXPECT_FALSE(rows.empty());
  for (const int32_t row : rows) EXPECT_EQ(row, 1 + 2 * 64);
}

}  // namespace
}  // namespace rasq
