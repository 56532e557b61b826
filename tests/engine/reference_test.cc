// The model against the reference's vectors (tests/testdata): every tensor of the tiny model, in
// sequential and in parallel form.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/model_harness.h"

namespace rasq {
namespace {

using testing::Expected;
using testing::ModelHarness;
using testing::RelativeError;
using testing::SourcePath;
using testing::TestStream;

constexpr int32_t kVocab = 256;
constexpr int32_t kTokens = 192;
constexpr int32_t kSegment = 16;
constexpr int32_t kBudget = 8;

// The reference's two forms differ by 1e-6 of the largest logit; float32 sums in another order stay
// well below this.
constexpr double kTolerance = 1e-4;

struct Case {
  int32_t capacity;
  bool parallel;
};
void PrintTo(const Case& c, std::ostream* os) {
  *os << "capacity_" << c.capacity << (c.parallel ? "_parallel" : "_sequential");
}

class TinyTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    auto file = SafetensorsFile::Open(SourcePath("tests/testdata/tiny/expected.safetensors"));
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
    tokens_ = *Expected(*file_, "tokens").ToInts();
    harness_ = std::make_unique<ModelHarness>(testing::HarnessOptions{
        .checkpoint = "tests/testdata/tiny", .capacity = GetParam().capacity});
  }

  std::vector<int32_t> Tokens(int32_t stream, int32_t begin, int32_t end) const {
    const auto first = tokens_.begin() + stream * kTokens;
    return {first + begin, first + end};
  }
  std::vector<float> Floats(const std::string& name) const {
    return *Expected(*file_, name).ToFloats();
  }
  std::vector<int32_t> Ints(const std::string& name) const {
    return *Expected(*file_, name).ToInts();
  }
  // Entries enter when the next segment begins; the reference's when theirs closes.
  std::vector<int32_t> PositionsAfter(TestStream& stream) {
    harness_->Run(stream, {0}, {0});
    return harness_->EntryPositions(stream);
  }

  std::unique_ptr<SafetensorsFile> file_;
  std::vector<int32_t> tokens_;
  std::unique_ptr<ModelHarness> harness_;
};

TEST_P(TinyTest, AgreesWithReference) {
  const std::string suffix = "capacity_" + std::to_string(GetParam().capacity);
  const std::vector<float> want = Floats("logits_" + suffix);
  const int32_t step = GetParam().parallel ? kTokens : kSegment;
  for (int32_t b = 0; b < 2; ++b) {
    TestStream stream = harness_->NewStream();
    std::vector<float> got;
    std::vector<std::vector<int32_t>> selected(2);
    for (int32_t begin = 0; begin < kTokens; begin += step) {
      const std::vector<float> logits = harness_->Run(stream, Tokens(b, begin, begin + step));
      got.insert(got.end(), logits.begin(), logits.end());
      for (int32_t r = 0; r < 2; ++r) {
        for (int32_t segment = 0; segment < step / kSegment; ++segment) {
          auto positions = *harness_->model().SelectedPositions(r, segment);
          positions.resize(kBudget, -1);
          selected[r].insert(selected[r].end(), positions.begin(), positions.end());
        }
      }
    }
    EXPECT_LT(RelativeError(got.data(), want.data() + b * kTokens * kVocab, kTokens * kVocab),
              kTolerance)
        << "stream " << b;
    for (int32_t r = 0; r < 2; ++r) {
      const std::string name = "selected_" + suffix + "_layer_" + std::to_string(r + 1);
      std::vector<int32_t> want_selected = Ints(name);
      const int64_t count = kTokens / kSegment * kBudget;
      want_selected = {want_selected.begin() + b * count, want_selected.begin() + (b + 1) * count};
      for (int64_t row = 0; row < count; row += kBudget) {  // unused places of ours come last
        std::sort(want_selected.begin() + row, want_selected.begin() + row + kBudget,
                  [](int32_t x, int32_t y) {
                    return static_cast<uint32_t>(x) < static_cast<uint32_t>(y);
                  });
      }
      EXPECT_EQ(selected[r], want_selected) << name << " stream " << b;
    }
    std::vector<int32_t> positions = Ints("buffer_positions_" + suffix);
    const int32_t capacity = GetParam().capacity;
    positions = {positions.begin() + b * capacity, positions.begin() + (b + 1) * capacity};
    EXPECT_THAT(PositionsAfter(stream), ::testing::UnorderedElementsAreArray(positions));
  }
}

using TinyRaggedTest = TinyTest;

TEST_P(TinyRaggedTest, SegmentsThatCloseEarlyAgreeWithReference) {
  const std::vector<int32_t> lengths = Ints("ragged_segment_lengths");
  const std::vector<float> want = Floats("logits_ragged_capacity_24");
  ASSERT_EQ(std::accumulate(lengths.begin(), lengths.end(), 0), kTokens);
  std::vector<int32_t> breaks;
  for (int32_t at = 0, i = 0; i < static_cast<int32_t>(lengths.size()); at += lengths[i++]) {
    breaks.push_back(at);
  }
  for (int32_t b = 0; b < 2; ++b) {
    TestStream stream = harness_->NewStream();
    std::vector<float> got;
    if (GetParam().parallel) {
      got = harness_->Run(stream, Tokens(b, 0, kTokens), breaks);
    } else {
      for (size_t i = 0; i < lengths.size(); ++i) {
        const std::vector<float> logits =
            harness_->Run(stream, Tokens(b, breaks[i], breaks[i] + lengths[i]), {0});
        got.insert(got.end(), logits.begin(), logits.end());
      }
    }
    EXPECT_LT(RelativeError(got.data(), want.data() + b * kTokens * kVocab, kTokens * kVocab),
              kTolerance);
    std::vector<int32_t> positions = Ints("buffer_positions_ragged_capacity_24");
    positions = {positions.begin() + b * 24, positions.begin() + (b + 1) * 24};
    EXPECT_THAT(PositionsAfter(stream), ::testing::UnorderedElementsAreArray(positions));
  }
}

// Invariant: while nothing has left the window, logits equal full attention.
TEST_P(TinyTest, FirstSegmentsEqualFullAttention) {
  const std::vector<float> want = Floats("logits_full_attention_first_segments");
  for (const Strategy strategy : {Strategy::kRasq, Strategy::kWindow, Strategy::kFull}) {
    for (int32_t b = 0; b < 2; ++b) {
      TestStream stream = harness_->NewStream(strategy);
      const std::vector<float> got = harness_->Run(stream, Tokens(b, 0, 48));
      EXPECT_LT(RelativeError(got.data(), want.data() + b * 48 * kVocab, 48 * kVocab), kTolerance)
          << "strategy " << static_cast<int>(strategy) << " stream " << b;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, TinyTest,
                         ::testing::Values(Case{24, false}, Case{24, true}, Case{1000, false},
                                           Case{1000, true}),
                         ::testing::PrintToStringParamName());

INSTANTIATE_TEST_SUITE_P(All, TinyRaggedTest, ::testing::Values(Case{24, false}, Case{24, true}),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace rasq
