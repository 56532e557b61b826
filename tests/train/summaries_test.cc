// Summary slots of all segments at once against one segment after another, in double.
#include "train/summaries.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "train/segment_attention.h"

namespace rasq::train {
namespace {

constexpr int64_t kStreams = 2;
constexpr int64_t kTokens = 60;
constexpr int64_t kKvHeads = 2;
constexpr int64_t kSlots = 3;
constexpr int64_t kHeadDim = 6;
constexpr int64_t kCompressed = 4;
constexpr RetrievalShape kShape{.segment = 4, .window = 8, .sinks = 2, .budget = 4, .span = 4};
constexpr int64_t kSegments = kTokens / kShape.segment;

struct World {
  Tensor log_gate = torch::log_sigmoid(2 * torch::randn({kStreams, kTokens}));
  Tensor query = torch::randn({kKvHeads, kSlots, kCompressed});
  Tensor key_down = torch::randn({kKvHeads, kCompressed, kHeadDim});
  Tensor value_down = torch::randn({kKvHeads, kCompressed, kHeadDim});
  Tensor key = torch::randn({kStreams, kTokens, kKvHeads, kHeadDim});
  Tensor value = torch::randn({kStreams, kTokens, kKvHeads, kHeadDim});
};

// P^+ of each matrix, in double.
Tensor Inverse(const Tensor& down) {
  const Tensor wide = down.to(torch::kFloat64), transposed = wide.transpose(1, 2);
  return torch::matmul(transposed, torch::inverse(torch::matmul(wide, transposed)));
}

// Every head's vectors of x [..., kv_heads, columns] by its matrix [kv_heads, rows, columns].
Tensor Apply(const Tensor& matrix, const Tensor& x) {
  return torch::matmul(matrix.to(torch::kFloat64), x.to(torch::kFloat64).unsqueeze(-1)).squeeze(-1);
}

Summaries InParallel(const World& world, int64_t capacity, double decay) {
  const Tensor alive = AliveEntries(world.log_gate, capacity, kShape);
  const LostEntries lost(world.log_gate, alive, kShape, decay);
  const auto round_trip = [](const Tensor& down, const Tensor& x) {
    return Apply(Inverse(down), Apply(down, x)).to(torch::kFloat32);
  };
  return Summarise(lost, {.query = world.query,
                          .key_down = world.key_down,
                          .plain_key = world.key,
                          .key = round_trip(world.key_down, world.key),
                          .value = round_trip(world.value_down, world.value),
                          .log_gate = world.log_gate});
}

// The recurrence as it is defined, of one stream.
class Sequential {
 public:
  Sequential(const World& world, int64_t stream, int64_t capacity, double decay)
      : world_(world),
        stream_(stream),
        capacity_(capacity),
        decay_(decay),
        gate_(world.log_gate[stream].to(torch::kFloat64)),
        key_(Apply(world.key_down, world.key[stream])),
        value_(Apply(world.value_down, world.value[stream])) {}

  double count() const { return count_; }
  const Tensor& keys() const { return keys_; }  // [kv_heads, slots, compressed]
  const Tensor& values() const { return values_; }

  void Begin(int64_t segment) {
    std::vector<int64_t> lost;
    for (; next_ < segment * kShape.segment - kShape.window; ++next_) {
      if (next_ >= kShape.sinks) buffer_.push_back(next_);
    }
    const auto worse = [&](int64_t a, int64_t b) { return Gate(a) < Gate(b); };
    while (static_cast<int64_t>(buffer_.size()) > capacity_) {
      const auto worst = std::min_element(buffer_.begin(), buffer_.end(), worse);
      lost.push_back(*worst);
      buffer_.erase(worst);
    }
    double gates = 0;
    for (const int64_t i : lost) gates += std::exp(static_cast<float>(Gate(i)));
    if (gates == 0) return;
    const Tensor keys = Mean(lost, key_), values = Mean(lost, value_);
    keys_ = count_ == 0 ? keys : decay_ * keys_ + (1 - decay_) * keys;
    values_ = count_ == 0 ? values : decay_ * values_ + (1 - decay_) * values;
    count_ = decay_ * count_ + gates;
  }

 private:
  double Gate(int64_t i) const { return gate_[i].item<double>(); }

  Tensor Mean(const std::vector<int64_t>& lost, const Tensor& rows) const {
    Tensor result = torch::zeros({kKvHeads, kSlots, kCompressed}, torch::kFloat64);
    for (int64_t head = 0; head < kKvHeads; ++head) {
      for (int64_t slot = 0; slot < kSlots; ++slot) {
        const Tensor query = world_.query[head][slot].to(torch::kFloat64);
        double sum = 0;
        for (const int64_t i : lost) {
          const double product = query.dot(key_[i][head]).item<double>();
          const double weight = std::exp(product / std::sqrt(kCompressed) + Gate(i));
          result[head][slot] += weight * rows[i][head];
          sum += weight;
        }
        result[head][slot] /= sum;
      }
    }
    return result;
  }

  const World& world_;
  const int64_t stream_, capacity_;
  const double decay_;
  const Tensor gate_, key_, value_;
  std::vector<int64_t> buffer_;
  int64_t next_ = 0;
  double count_ = 0;
  Tensor keys_, values_;
};

struct Case {
  std::string name;
  int64_t capacity;
  double decay;
  // Tokens whose gate is so low that it is 0 in float32: some X have no others, the first one or,
  // if they come later, one that finds slots full.
  std::pair<int64_t, int64_t> shut = {0, 0};
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class SummariesTest : public ::testing::TestWithParam<Case> {};

TEST_P(SummariesTest, AreThoseOfOneSegmentAfterAnother) {
  const Case& c = GetParam();
  torch::manual_seed(3);
  World world;
  world.log_gate.narrow(1, c.shut.first, c.shut.second - c.shut.first).fill_(-200);
  // Ties are told apart by nothing but position: not of this test.
  world.log_gate += torch::linspace(0, 1e-2, kTokens);
  const Summaries got = InParallel(world, c.capacity, c.decay);
  const Tensor key_up = Inverse(world.key_down), value_up = Inverse(world.value_down);
  int64_t num_full = 0, num_kept = 0;
  for (int64_t stream = 0; stream < kStreams; ++stream) {
    Sequential want(world, stream, c.capacity, c.decay);
    for (int64_t segment = 0; segment < kSegments; ++segment) {
      const double before = want.count();
      want.Begin(segment);
      SCOPED_TRACE(std::to_string(stream) + ", " + std::to_string(segment));
      ASSERT_EQ(got.is_empty[stream][segment].item<bool>(), want.count() == 0);
      if (want.count() == 0) continue;
      num_full += want.count() != before;
      num_kept += want.count() == before;
      EXPECT_NEAR(got.log_count[stream][segment].item<double>(), std::log(want.count()), 1e-5);
      for (int64_t slot = 0; slot < kSlots; ++slot) {
        const auto expect = [&](const Tensor& own, const Tensor& up, const Tensor& compressed) {
          const Tensor error = own[stream][segment][slot].to(torch::kFloat64) -
                               Apply(up, compressed.select(1, slot));
          EXPECT_LT(error.abs().max().item<double>(), 1e-4);
        };
        expect(got.key, key_up, want.keys());
        expect(got.value, value_up, want.values());
      }
    }
  }
  EXPECT_GT(num_full, 0);
  EXPECT_EQ(num_kept > 0, c.shut.first > 0) << "segments that lost nothing that counts";
}

INSTANTIATE_TEST_SUITE_P(All, SummariesTest,
                         ::testing::Values(Case{"Slow", 5, 0.9}, Case{"Fast", 5, 0.25},
                                           Case{"ForgetsAll", 7, 0}, Case{"One", 1, 0.9},
                                           Case{"Large", 30, 0.9}, Case{"Shut", 6, 0.5, {22, 36}},
                                           Case{"ShutAtFirst", 2, 0.5, {0, 20}}),
                         [](const auto& c) { return c.param.name; });

// As many fall out at once as were ever kept: more than a tile of them, in one X.
TEST(SummariesTest, OneSegmentLosesMany) {
  torch::manual_seed(4);
  World world;
  Tensor alive = AliveEntries(world.log_gate, /*capacity=*/0, kShape).clone();
  alive.narrow(1, 12, kSegments - 12).fill_(false);
  const LostEntries lost(world.log_gate, alive, kShape, /*decay=*/0.9);
  const Tensor logit = torch::randn({kStreams, kTokens, kKvHeads, kSlots});
  const Tensor got = lost.Carry(logit, world.key);
  const int64_t first = kShape.sinks, past = 12 * kShape.segment - kShape.window;
  const Tensor of_past = logit.narrow(1, first, past - first).softmax(1);
  const Tensor want =
      torch::einsum("bthr,bthd->brhd", {of_past, world.key.narrow(1, first, past - first)});
  EXPECT_TRUE(torch::allclose(got.select(1, 12), want, 1e-5, 1e-5));
  EXPECT_TRUE(torch::equal(lost.is_empty()[0], torch::arange(kSegments) < 12));
}

// Logits far beyond what exp can take.
TEST(SummariesTest, LargeLogitsAreSafe) {
  torch::manual_seed(5);
  World world;
  world.query *= 1000;
  const Summaries got = InParallel(world, /*capacity=*/5, /*decay=*/0.9);
  EXPECT_TRUE(got.key.isfinite().all().item<bool>());
  EXPECT_GT(got.key.abs().max().item<double>(), 0.1);
}

// Beside slots a segment reads its window and itself here: one softmax, in which a slot has its
// mass and nothing else.
TEST(SummariesTest, AreReadAsEntriesOfTheirMass) {
  torch::manual_seed(6);
  constexpr int64_t kHeads = 4;
  RetrievalShape shape = kShape;
  shape.sinks = 0;
  // Without frequencies nothing turns, so that a plain product is the logit.
  const SegmentPlan plan(kStreams, kTokens, shape, torch::zeros({kHeadDim / 2}, torch::kFloat64));
  const auto none = torch::zeros({kStreams, kSegments, shape.budget});
  const Retrieval retrieval{.position = none.to(torch::kInt64),
                            .valid = none.to(torch::kBool),
                            .score = none + 3,
                            .log_gate = none + 3,
                            .age = none + 3};
  World world;
  const Summaries summaries{
      .key = torch::randn({kStreams, kSegments, kSlots, kKvHeads, kHeadDim}),
      .value = torch::randn({kStreams, kSegments, kSlots, kKvHeads, kHeadDim}),
      .log_count = torch::randn({kStreams, kSegments}),
      .is_empty = torch::arange(kSegments).expand({kStreams, -1}) < 5};
  const MemoryKeys memory{.retrieval = &retrieval,
                          .key = world.key,
                          .value = world.value,
                          .score_weight = torch::randn({kHeads}),
                          .age_slope = torch::randn({kHeads}),
                          .summaries = summaries};
  const Tensor query = torch::randn({kStreams, kTokens, kHeads, kHeadDim});
  const Tensor bias =
      QueryBias(memory, kHeads, kHeadDim, query.options()).expand({kStreams, kTokens, -1, -1});
  const Tensor got = SegmentAttention({.query = torch::cat({query, bias}, -1),
                                       .key = world.key,
                                       .plain_key = world.key,
                                       .value = world.value},
                                      memory, plan);
  for (const int64_t token : {3, 21, 22, 59}) {
    const int64_t segment = token / shape.segment;
    for (int64_t head = 0; head < kHeads; ++head) {
      const int64_t kv_head = head / (kHeads / kKvHeads);
      const Tensor q = query[1][token][head].to(torch::kFloat64);
      Tensor sum = torch::zeros({kHeadDim}, torch::kFloat64);
      double denominator = 0;
      const auto read = [&](const Tensor& key, const Tensor& value, double extra) {
        const double logit =
            q.dot(key.to(torch::kFloat64)).item<double>() / std::sqrt(kHeadDim) + extra;
        sum += std::exp(logit) * value.to(torch::kFloat64);
        denominator += std::exp(logit);
      };
      for (int64_t i = std::max<int64_t>(0, segment * shape.segment - shape.window); i <= token;
           ++i) {
        read(world.key[1][i][kv_head], world.value[1][i][kv_head], 0);
      }
      for (int64_t slot = 0; slot < kSlots && segment >= 5; ++slot) {
        read(summaries.key[1][segment][slot][kv_head], summaries.value[1][segment][slot][kv_head],
             summaries.log_count[1][segment].item<double>());
      }
      EXPECT_TRUE(
          torch::allclose(got[1][token][head].to(torch::kFloat64), sum / denominator, 1e-4, 1e-5))
          << token << " " << head;
    }
  }
}

}  // namespace
}  // namespace rasq::train
