// The model with slots that sum up what its memory has lost (kernels/summarize_entries.h), and
// sessions of it. Tiny segments and buffers, so that nearly every segment loses entries.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/engine_group.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/backends.h"
#include "tests/support/engine_harness.h"
#include "tests/support/entry_format.h"
#include "tests/support/model_harness.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_with_summaries.h"

namespace rasq {
namespace {

using ::testing::HasSubstr;
using testing::ModelHarness;
using testing::TestStream;
using testing::TinyCheckpoint;
using testing::TinyWithSummaries;

constexpr int32_t kVocab = 256;
// Of the tiny model.
constexpr int32_t kSegment = 16, kWindow = 32, kSinks = 4, kRing = 48, kKvHeads = 2, kHeads = 4,
                  kHeadDim = 16, kCompressed = 8;
constexpr double kDecay = 0.75;

std::vector<int32_t> RandomTokens(uint64_t seed, int64_t count) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % kVocab);
  return tokens;
}

// A stream's state, with what its offsets say is in it.
class StateView {
 public:
  StateView(ModelHarness& harness, const TestStream& stream) : layout_(*stream.layout) {
    bytes_.resize(layout_.bytes);
    RASQ_CHECK(harness.ops().CopyToHost(bytes_.data(), stream.state->data(), layout_.bytes).ok());
  }

  const std::byte* at(int64_t offset) const { return bytes_.data() + offset; }
  template <typename T>
  T Load(int64_t offset, int64_t i) const {
    T value;
    std::memcpy(&value, at(offset) + i * sizeof(T), sizeof(T));
    return value;
  }
  // Of those in the buffer: their slots, by position.
  std::map<int64_t, int32_t> Entries() const {
    std::map<int64_t, int32_t> entries;
    for (int32_t slot = 0; slot < layout_.shape.capacity; ++slot) {
      const auto position = Load<int64_t>(layout_.entry_position, slot);
      if (position >= 0) entries[position] = slot;
    }
    return entries;
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  const StateLayout& layout_;
  std::vector<std::byte> bytes_;
};

// Logits of the tokens, given to the model in parts of `part`.
std::vector<float> LogitsOf(ModelHarness& harness, TestStream& stream,
                            const std::vector<int32_t>& tokens, size_t part) {
  std::vector<float> all;
  for (size_t at = 0; at < tokens.size(); at += part) {
    const size_t end = std::min(at + part, tokens.size());
    const std::vector<float> logits =
        harness.Run(stream, {tokens.begin() + at, tokens.begin() + end});
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

double Difference(const std::vector<float>& got, const std::vector<float>& want) {
  return testing::RelativeError(got.data(), want.data(), static_cast<int64_t>(want.size()));
}

class SummariesTest : public testing::BackendTest {
 protected:
  // As of the shipped model's vectors (shipped_model_test.cc).
  double Tolerance() const { return is_rough() ? 0.1 : 1e-4; }
  testing::HarnessOptions On(const TinyCheckpoint& model, int32_t capacity = 0) const {
    return {.checkpoint = model.path(), .backend = GetParam(), .capacity = capacity};
  }
};
INSTANTIATE_TEST_SUITE_P(All, SummariesTest,
                         ::testing::Values("float32", "float32_int8", "bfloat16", "cuda",
                                           "cuda_int8"),
                         testing::BackendName);

// The recurrence of one layer in double, from what states said before each segment.
class PlainSlots {
 public:
  PlainSlots(const Checkpoint& checkpoint, int32_t layer, int32_t slots, DType element)
      : slots_(slots),
        element_(element),
        inv_freq_(checkpoint.model().inv_freq),
        key(kKvHeads * slots * kCompressed),
        value(key) {
    const std::string base = "layers." + std::to_string(layer) + ".memory.";
    query_ = *checkpoint.Floats(base + "summary_query", {kKvHeads, slots, kCompressed});
    for (const char* name : {"key_down.weight", "value_down.weight"}) {
      const Elements rounded(element,
                             *checkpoint.Floats(base + name, {kKvHeads, kCompressed, kHeadDim}));
      down_.push_back(rounded.ToFloats());
    }
  }

  // An entry as the buffer holds it, or as it would have been stored: [kv_heads, compressed].
  struct Entry {
    std::vector<double> key, value;
    double log_gate;
  };

  // What a token in the window becomes.
  Entry Compressed(const StateView& state, const StateLayout& layout, int32_t layer,
                   int64_t position) const {
    const LayerState& at = layout.layers[layer];
    Entry entry{.key = {},
                .value = {},
                .log_gate = state.Load<float>(layout.ring_log_gate, position % kRing)};
    for (int64_t head = 0; head < kKvHeads; ++head) {
      const int64_t row = (position % kRing * kKvHeads + head) * kHeadDim;
      std::vector<double> k(kHeadDim), v(kHeadDim);
      for (int i = 0; i < kHeadDim; ++i) {
        k[i] = Elements::Load(element_, state.at(at.ring_k), row + i);
        v[i] = Elements::Load(element_, state.at(at.ring_v), row + i);
      }
      for (int i = 0; i < kHeadDim / 2; ++i) {  // without its rotation
        const double angle = static_cast<double>(position) * inv_freq_[i];
        const double x = k[i], y = k[i + kHeadDim / 2];
        k[i] = x * std::cos(angle) + y * std::sin(angle);
        k[i + kHeadDim / 2] = y * std::cos(angle) - x * std::sin(angle);
      }
      for (int c = 0; c < kCompressed; ++c) {
        double sums[2] = {0, 0};
        for (int i = 0; i < kHeadDim; ++i) {
          sums[0] += down_[0][(head * kCompressed + c) * kHeadDim + i] * k[i];
          sums[1] += down_[1][(head * kCompressed + c) * kHeadDim + i] * v[i];
        }
        entry.key.push_back(sums[0]);
        entry.value.push_back(sums[1]);
      }
    }
    return entry;
  }

  void Lose(const std::vector<Entry>& lost, bool is_first) {
    const double keep = is_first ? 0 : kDecay;
    for (int64_t slot = 0; slot < int64_t{kKvHeads} * slots_; ++slot) {
      const int64_t of_head = slot / slots_ * kCompressed;
      double sum = 0, mean_k[kCompressed] = {}, mean_v[kCompressed] = {};
      for (const Entry& entry : lost) {
        double dot = 0;
        for (int d = 0; d < kCompressed; ++d) {
          dot += query_[slot * kCompressed + d] * entry.key[of_head + d];
        }
        const double weight = std::exp(dot / std::sqrt(kCompressed) + entry.log_gate);
        sum += weight;
        for (int d = 0; d < kCompressed; ++d) {
          mean_k[d] += weight * entry.key[of_head + d];
          mean_v[d] += weight * entry.value[of_head + d];
        }
      }
      for (int d = 0; d < kCompressed; ++d) {
        const int64_t at = slot * kCompressed + d;
        key[at] = keep * key[at] + (1 - keep) * mean_k[d] / sum;
        value[at] = keep * value[at] + (1 - keep) * mean_v[d] / sum;
      }
    }
  }

 private:
  const int32_t slots_;
  const DType element_;
  const std::vector<double> inv_freq_;
  std::vector<float> query_;
  std::vector<std::vector<float>> down_;  // P_k, P_v

 public:
  std::vector<double> key, value;  // [kv_heads, slots, compressed]
};

// Segment after segment: whoever was in the buffer or left the window, and is not in the buffer
// when the segment has begun, went into the slots.
TEST_P(SummariesTest, SlotsHoldWhatWasLost) {
  constexpr int32_t kSlots = 3;
  const TinyWithSummaries model(kSlots, kDecay);
  ModelHarness harness(On(model));
  const auto checkpoint = Checkpoint::Open(model.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  TestStream stream = harness.NewStream();
  const StateLayout& layout = *stream.layout;
  const DType element = harness.ops().element();
  const EntryFormat format{layout.entry_type, element, kKvHeads, kCompressed};
  std::map<int32_t, PlainSlots> plain;
  for (const int32_t layer : {1, 2, 3}) {
    plain.try_emplace(layer, **checkpoint, layer, kSlots, element);
  }
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/1, 25 * kSegment);
  double mass = 0;
  int num_refused = 0, num_fallen = 0;
  for (int64_t start = 0; start < 25 * kSegment; start += kSegment) {
    const StateView before(harness, stream);
    harness.Run(stream, {tokens.begin() + start, tokens.begin() + start + kSegment}, {0});
    const StateView after(harness, stream);
    const std::map<int64_t, int32_t> were = before.Entries(), are = after.Entries();
    std::map<int64_t, int32_t> lost;  // -1: refused
    for (const auto& [position, slot] : were) {
      if (!are.contains(position)) lost[position] = slot;
    }
    num_fallen += static_cast<int>(lost.size());
    const int64_t left = std::max<int64_t>(start - kWindow - kSegment, kSinks);
    for (int64_t position = left; position < start - kWindow; ++position) {
      if (!are.contains(position)) lost[position] = -1, ++num_refused;
    }
    double gates = 0;
    for (auto& [layer, slots] : plain) {
      gates = 0;
      std::vector<PlainSlots::Entry> entries;
      for (const auto& [position, slot] : lost) {
        PlainSlots::Entry& entry = entries.emplace_back();
        if (slot < 0) {
          entry = slots.Compressed(before, layout, layer, position);
        } else {
          entry.log_gate = before.Load<float>(layout.entry_log_gate, slot);
          for (int i = 0; i < kKvHeads * kCompressed; ++i) {
            const auto load = [&](int64_t rows) {
              return format.Load(before.at(rows), slot, i / kCompressed, i % kCompressed);
            };
            entry.key.push_back(load(layout.layers[layer].entry_k));
            entry.value.push_back(load(layout.layers[layer].entry_v));
          }
        }
        gates += std::exp(entry.log_gate);
      }
      if (!entries.empty()) slots.Lose(entries, mass == 0);
    }
    mass = lost.empty() ? mass : kDecay * mass + gates;
    ASSERT_NEAR(after.Load<float>(layout.summary_mass, 0), mass, mass * 1e-5) << "at " << start;
    for (const auto& [layer, slots] : plain) {
      SCOPED_TRACE(::testing::Message() << "layer " << layer << " at " << start);
      const LayerState& at = layout.layers[layer];
      for (const auto& [masters, rows, want] :
           {std::tuple(at.summary_k, at.entry_k, slots.key),
            std::tuple(at.summary_v, at.entry_v, slots.value)}) {
        double largest = 0;
        for (const double x : want) largest = std::max(largest, std::abs(x));
        // Refused candidates are rounded as they are stored, here they are not: by half a step of
        // int8, or bfloat16's rounding.
        const double near = largest * (is_rough() ? 0.02 : 1e-5);
        for (int i = 0; i < kKvHeads * kSlots * kCompressed; ++i) {
          ASSERT_NEAR(after.Load<float>(masters, i), want[i], near) << i;
          const int head = i / (kSlots * kCompressed), t = i / kCompressed % kSlots;
          ASSERT_NEAR(format.Load(after.at(rows), layout.shape.capacity + t, head, i % kCompressed),
                      want[i], near)
              << i;
        }
      }
    }
  }
  EXPECT_GT(num_fallen, 20);
  EXPECT_GT(num_refused, 20);
}

// Without scores and ages an entry weighs by its key and gate alone. So one slot that has lost one
// entry is read as that entry would be, had the buffer room for it.
TEST_P(SummariesTest, ASlotOfOneEntryIsReadAsTheEntry) {
  constexpr int32_t kEntries = 5 * kSegment - kWindow - kSinks;  // when the sixth segment begins
  TinyCheckpoint::Tensors bare;
  for (const int layer : {1, 2, 3}) {
    const std::string memory = "layers." + std::to_string(layer) + ".memory.";
    bare[memory + "score_weight"] =
        bare[memory + "age_slope"] = {{kHeads}, std::vector<float>(kHeads)};
  }
  const nlohmann::json all = {{"buffer_capacity_tokens", kEntries},
                              {"retrieval_budget_tokens", kEntries}};
  const TinyCheckpoint without(all, bare);
  const TinyWithSummaries with(/*slots=*/1, kDecay, all, bare);
  ModelHarness roomy(On(without)), lossy(On(without, kEntries - 1)), slot(On(with, kEntries - 1));
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/2, 6 * kSegment);
  const std::vector<int32_t> first(tokens.begin(), tokens.end() - kSegment);
  const std::vector<int32_t> last(tokens.end() - kSegment, tokens.end());
  for (const size_t part : {6 * kSegment, kSegment, 1}) {
    const auto logits = [&](ModelHarness& harness) {
      TestStream stream = harness.NewStream();
      if (part > kSegment) return LogitsOf(harness, stream, tokens, part);
      std::vector<float> got = LogitsOf(harness, stream, first, kSegment);
      const std::vector<float> rest = LogitsOf(harness, stream, last, part);
      got.insert(got.end(), rest.begin(), rest.end());
      return got;
    };
    const std::vector<float> want = logits(roomy);
    EXPECT_LT(Difference(logits(slot), want), is_rough() ? 0.02 : 1e-5) << "parts of " << part;
    if (!is_rough()) {
      EXPECT_GT(Difference(logits(lossy), want), 1e-4) << "parts of " << part;
    }
  }
}

TEST_P(SummariesTest, ParallelEqualsSequential) {
  const TinyWithSummaries model(4, kDecay);
  const TinyCheckpoint without(nlohmann::json::object());
  ModelHarness harness(On(model)), plain(On(without));
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/3, 24 * kSegment);
  TestStream at_once = harness.NewStream(), in_turn = harness.NewStream(),
             of_plain = plain.NewStream();
  // Whole segments, in one step and one after another: the same to the last bit.
  const std::vector<float> want = LogitsOf(harness, at_once, tokens, tokens.size());
  EXPECT_EQ(LogitsOf(harness, in_turn, tokens, kSegment), want);
  EXPECT_EQ(StateView(harness, in_turn).bytes(), StateView(harness, at_once).bytes());
  // And the slots are read.
  EXPECT_GT(Difference(LogitsOf(plain, of_plain, tokens, tokens.size()), want), 1e-3);
}

// Segments that close early, in one step and one after another.
TEST_P(SummariesTest, SegmentsThatCloseEarly) {
  const TinyWithSummaries model(2, kDecay);
  ModelHarness harness(On(model));
  const std::vector<int32_t> lengths = {16, 16, 3, 16, 1, 9, 16, 16, 2, 16, 12, 16, 5, 16, 16, 10};
  std::vector<int32_t> breaks;
  int32_t total = 0;
  for (const int32_t length : lengths) breaks.push_back(std::exchange(total, total + length));
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/4, total);
  TestStream at_once = harness.NewStream(), in_turn = harness.NewStream();
  const std::vector<float> want = harness.Run(at_once, tokens, breaks);
  std::vector<float> got;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const auto segment = tokens.begin() + breaks[i];
    const std::vector<float> logits = harness.Run(in_turn, {segment, segment + lengths[i]}, {0});
    got.insert(got.end(), logits.begin(), logits.end());
  }
  EXPECT_EQ(got, want);
}

TEST_P(SummariesTest, DecodeEqualsAppend) {
  // Decoding rounds otherwise than appending does, and the index chooses by what it is given.
  if (is_rough()) GTEST_SKIP() << "what is selected depends on rounding";
  const TinyWithSummaries model(4, kDecay);
  ModelHarness harness(On(model));
  const std::vector<int32_t> tokens = RandomTokens(/*seed=*/5, 300);
  TestStream whole = harness.NewStream();
  const std::vector<float> want = LogitsOf(harness, whole, tokens, 300);
  for (const size_t part : {1, 7, 100}) {
    TestStream stream = harness.NewStream();
    EXPECT_LT(Difference(LogitsOf(harness, stream, tokens, part), want), Tolerance())
        << "parts of " << part;
  }
}

// Streams with and without slots in one step, each as alone: of rasq, of the window, and of the
// layout that an exact memory has.
TEST_P(SummariesTest, OtherStreamsDoNotMatter) {
  const TinyWithSummaries model(4, kDecay);
  ModelHarness harness(On(model));
  MemoryConfig exact = harness.memory();
  exact.exact_entries = true;
  exact.capacity = 8;
  const StateLayout layout = *MakeStateLayout(Strategy::kRasq, harness.model().config(), exact,
                                              harness.ops().element(), {});
  EXPECT_FALSE(layout.has_summaries());
  const auto make = [&] {
    std::vector<TestStream> streams;
    streams.push_back(harness.NewStream(Strategy::kWindow));
    streams.push_back(harness.NewStream());
    streams.push_back({.layout = &layout, .state = *harness.ops().Allocate(layout.bytes)});
    EXPECT_TRUE(ResetState(layout, harness.ops(), streams[2].state->data()).ok());
    streams.push_back(harness.NewStream());
    return streams;
  };
  std::vector<TestStream> together = make(), alone = make();
  for (int round = 0; round < 12; ++round) {
    std::vector<StreamStep> steps;
    for (size_t i = 0; i < together.size(); ++i) {
      const std::vector<int32_t> tokens = RandomTokens(10 * round + i, (2 + i) * kSegment);
      steps.push_back(harness.Step(together[i], tokens));
      StreamStep one = harness.Step(alone[i], tokens);
      ASSERT_TRUE(harness.model().Step({&one, 1}).ok());
    }
    const auto outcomes = harness.model().Step(steps);
    ASSERT_TRUE(outcomes.ok()) << outcomes.status();
    // Slots are no part of what is said to be retrieved.
    for (const int32_t count : (*outcomes)[1].retrieved) EXPECT_LE(count, 8);
  }
  for (size_t i = 0; i < together.size(); ++i) {
    EXPECT_EQ(StateView(harness, together[i]).bytes(), StateView(harness, alone[i]).bytes()) << i;
  }
}

TEST(SummariesLayoutTest, RoomOnlyWhereThereAreSlots) {
  const auto bytes = [](const TinyCheckpoint& model) {
    ModelHarness harness({.checkpoint = model.path(), .backend = "float32"});
    return harness.NewStream().layout->bytes;
  };
  const int64_t without = bytes(TinyCheckpoint(nlohmann::json::object()));
  EXPECT_EQ(bytes(TinyWithSummaries(0, kDecay)), without);
  // Of 3 layers: 16 rows of keys and of values of 16 floats each, twice, one time as entries and
  // one as masters; and a mass. All of them whole multiples of 256 bytes.
  EXPECT_EQ(bytes(TinyWithSummaries(16, kDecay)), without + 3 * 2 * 2 * 16 * 16 * 4 + 256);
}

class SummariesSessionTest : public testing::BackendTest {
 protected:
  // Weights are made up: the tiny model has no tokenizer.
  EngineOptions Options(const TinyCheckpoint& model) const {
    EngineOptions options = testing::ShippedModel(GetParam());
    options.model = model.path();
    options.load_format = LoadFormat::kDummy;
    options.full_context_tokens = 64;
    options.snapshot_dir = directory_.path();
    return options;
  }
  static std::unique_ptr<EngineGroup> Start(const EngineOptions& options) {
    auto group = EngineGroup::Create(options, nullptr);
    RASQ_CHECK(group.ok());
    return *std::move(group);
  }

  testing::TemporaryDirectory directory_;
  const TinyWithSummaries model_{4, kDecay};
};
INSTANTIATE_TEST_SUITE_P(All, SummariesSessionTest, ::testing::Values("float32", "cuda"),
                         testing::BackendName);

TEST_P(SummariesSessionTest, CopiesGoOnAsTheirOrigin) {
  EngineOptions options = Options(model_);
  const auto plain = Start(options);
  options.max_sessions = 2;
  options.host_state_bytes = 8 * plain->model().session_state_bytes;
  const auto group = Start(options);
  for (const auto& engine : {plain.get(), group.get()}) {
    testing::CreateSession(*engine, "a");
    ASSERT_TRUE(testing::Append(*engine, "a", testing::Prose(1, 900)).ok());
  }
  // Its copies take its slot in turn, so that states are parked and come back.
  ASSERT_TRUE(testing::Fork(*group, {.session = "a", .new_id = "b"}).ok());
  ASSERT_TRUE(testing::Snapshot(*group, {.session = "a", .snapshot_id = "one"}).ok());
  ASSERT_TRUE(testing::Restore(*group, {.snapshot = "one", .session_id = "c"}).ok());
  for (int round = 0; round < 3; ++round) {
    const std::vector<int32_t> want = testing::NextTokens(*plain, "a", 40);
    for (const char* id : {"a", "b", "c"}) {
      EXPECT_EQ(testing::NextTokens(*group, id, 40), want) << id;
      ASSERT_TRUE(testing::Append(*group, id, testing::Prose(2 + round, 300)).ok());
    }
    ASSERT_TRUE(testing::Append(*plain, "a", testing::Prose(2 + round, 300)).ok());
  }
  EXPECT_GT(group->Stats().unparks, 0);
}

TEST_P(SummariesSessionTest, AModelWithoutSlotsRefusesTheirStates) {
  {
    const auto group = Start(Options(model_));
    testing::CreateSession(*group, "a");
    ASSERT_TRUE(testing::Append(*group, "a", testing::Prose(1, 900)).ok());
    ASSERT_TRUE(testing::Snapshot(*group, {.session = "a", .snapshot_id = "one"}).ok());
  }
  const TinyWithSummaries others[] = {TinyWithSummaries(0, kDecay), TinyWithSummaries(3, kDecay),
                                      TinyWithSummaries(4, 0.5)};
  for (const TinyCheckpoint& other : others) {
    const auto group = Start(Options(other));
    const absl::Status status =
        testing::Restore(*group, {.snapshot = "one", .session_id = "b"}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  }
}

// A session of exact entries has none, and as many entries as the bytes hold.
TEST_P(SummariesSessionTest, ExactSessionsHaveNone) {
  const auto group = Start(Options(model_));
  SessionOptions exact;
  exact.ablation.no_rckv = true;
  const auto session = group->CreateSession({.id = "exact", .options = exact});
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_LE(session->state_bytes, group->model().session_state_bytes);
  testing::CreateSession(*group, "usual");
  for (const char* id : {"exact", "usual"}) {
    ASSERT_TRUE(testing::Append(*group, id, testing::Prose(1, 900)).ok());
    EXPECT_EQ(testing::NextTokens(*group, id, 8).size(), 8u);
  }
}

}  // namespace
}  // namespace rasq
