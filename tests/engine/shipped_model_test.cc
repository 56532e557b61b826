// The shipped model against the reference's vectors: a stream of tokens at every segment's end, and
// 36 texts with a question each.
#include <algorithm>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/backends.h"
#include "tests/support/engine_harness.h"
#include "tests/support/model_harness.h"

namespace rasq {
namespace {

using testing::Answer;
using testing::Expected;
using testing::ModelHarness;
using testing::RelativeError;
using testing::SourcePath;
using testing::TestStream;

using ShippedModelTest = testing::BackendTest;

TEST_P(ShippedModelTest, StreamAgreesWithReference) {
  auto file = SafetensorsFile::Open(SourcePath("tests/testdata/stream.safetensors"));
  ASSERT_TRUE(file.ok()) << file.status();
  const std::vector<int32_t> tokens = *Expected(**file, "tokens").ToInts();
  const std::vector<float> want = *Expected(**file, "logits_at_segment_ends").ToFloats();
  const std::vector<int32_t> positions = *Expected(**file, "buffer_positions").ToInts();

  ModelHarness harness({.checkpoint = "models/default", .backend = GetParam()});
  const int64_t vocab = harness.model().config().vocab;
  TestStream stream = harness.NewStream();
  double worst = 0;
  for (size_t begin = 0; begin < tokens.size(); begin += 512) {
    const size_t end = std::min(begin + 512, tokens.size());
    const std::vector<float> logits =
        harness.Run(stream, {tokens.begin() + begin, tokens.begin() + end});
    for (size_t at = begin + 63; at < end; at += 64) {
      worst = std::max(worst, RelativeError(logits.data() + (at - begin) * vocab,
                                            want.data() + at / 64 * vocab, vocab));
    }
  }
  std::cout << GetParam() << ": largest difference of a logit, over the largest logit: " << worst
            << "\n";
  // float32 differs by the order of sums. bfloat16 rounds each product's inputs to 2^-9, and eight
  // layers of two such roundings add up like a random walk: 2^-9 * sqrt(8 * 4) ~ 0.011, and where a
  // retrieval's choice tips over, some times that.
  EXPECT_LT(worst, is_rough() ? 0.1 : 1e-4);
  harness.Run(stream, {0});  // the last segment's entries enter when the next one begins
  std::vector<int32_t> got = harness.EntryPositions(stream);
  if (!is_rough()) {
    EXPECT_THAT(got, ::testing::UnorderedElementsAreArray(positions));
  } else {  // rounding may swap entries whose gates are all but equal
    std::vector<int32_t> same, sorted = positions;
    std::sort(sorted.begin(), sorted.end());
    std::sort(got.begin(), got.end());
    std::set_intersection(got.begin(), got.end(), sorted.begin(), sorted.end(),
                          std::back_inserter(same));
    std::cout << GetParam() << ": " << same.size() << " of " << positions.size()
              << " buffer positions are those of float32\n";
    EXPECT_GT(same.size(), positions.size() * 95 / 100);
  }
}

TEST_P(ShippedModelTest, AnswersAsReference) {
  std::ifstream lines(SourcePath("tests/testdata/streams.jsonl"));
  ASSERT_TRUE(lines);
  const std::unique_ptr<Engine> engine = testing::StartEngine(testing::ShippedModel(GetParam()));
  int asked = 0, same_answers = 0, true_answers = 0, same_sequences = 0;
  for (std::string line; std::getline(lines, line); ++asked) {
    const nlohmann::json stream = nlohmann::json::parse(line);
    const std::string session = testing::CreateSession(*engine);
    const auto appended = testing::Append(*engine, session, stream.at("text").get<std::string>());
    ASSERT_TRUE(appended.ok()) << appended.status();
    GenerateRequest request{.session = session, .prompt = stream.at("prompt").get<std::string>()};
    request.stop.max_new_tokens = 16;
    request.stop.ignore_eos = true;
    const auto answer = testing::Generate(*engine, request);
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->summary.prompt_tokens, 65);
    EXPECT_EQ(answer->summary.context_tokens, stream.at("tokens").get<int64_t>());
    std::string said = answer->text.substr(0, answer->text.find('\n'));
    said.erase(0, said.find_first_not_of(' '));
    const std::string want = stream.at("reference_answer");
    if (said == want) {
      ++same_answers;
    } else {
      std::cout << GetParam() << ": stream " << asked << " says \"" << said
                << "\", the reference \"" << want << "\"\n";
    }
    true_answers += said == stream.at("answer").get<std::string>();
    same_sequences += answer->ids() == stream.at("reference_token_ids").get<std::vector<int32_t>>();
    ASSERT_TRUE(testing::DeleteSession(*engine, session).ok());
  }
  std::cout << GetParam() << ": of " << asked << " answers " << same_answers
            << " are the reference's, " << true_answers << " are true; " << same_sequences
            << " of the 16-token sequences are the reference's\n";
  EXPECT_EQ(asked, 36);
  EXPECT_EQ(same_answers, asked);
}

INSTANTIATE_TEST_SUITE_P(All, ShippedModelTest,
                         ::testing::Values("float32", "float32_int8", "bfloat16", "bfloat16_int8",
                                           "cuda", "cuda_int8"),
                         testing::BackendName);

}  // namespace
}  // namespace rasq
