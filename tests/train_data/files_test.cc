#include "tests/support/files.h"

#include <gtest/gtest.h>
#include <lzma.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/tasks/world.h"
#include "tests/support/temporary_directory.h"
#include "train/data/babi.h"
#include "train/data/corpus.h"
#include "train/data/dialogues.h"
#include "train/data/span_questions.h"
#include "train/data/text_file.h"

namespace rasq::train {
namespace {

using tasks::Split;

class FilesTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& content) {
    const std::string path = absl::StrCat(directory_.path(), "/", name);
    WriteFile(path, content);
    return path;
  }

  const rasq::testing::TemporaryDirectory directory_;
};

std::string Compress(const std::string& text) {
  std::string out(lzma_stream_buffer_bound(text.size()), '\0');
  size_t size = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(/*preset=*/1, LZMA_CHECK_CRC64, nullptr,
                                    reinterpret_cast<const uint8_t*>(text.data()), text.size(),
                                    reinterpret_cast<uint8_t*>(out.data()), &size, out.size()),
            LZMA_OK);
  out.resize(size);
  return out;
}

TEST_F(FilesTest, ReadsPlainAndCompressedText) {
  const std::string text(3'000'000, 'x');
  EXPECT_EQ(*ReadText(Write("a.txt", text)), text);
  const std::string packed = Compress(text);
  EXPECT_EQ(*ReadText(Write("b.txt.xz", packed)), text);
  // Several streams behind each other are one file.
  EXPECT_EQ(ReadText(Write("c.txt.xz", packed + packed))->size(), 2 * text.size());
  EXPECT_EQ(*ReadText(Write("d.txt", "")), "");

  EXPECT_EQ(ReadText(directory_.path() + "/none").status().code(), absl::StatusCode::kNotFound);
  for (const std::string& broken : {std::string("no xz"), packed.substr(0, packed.size() / 2),
                                    std::string(), packed + "tail"}) {
    EXPECT_EQ(ReadText(Write("e.txt.xz", broken)).status().code(), absl::StatusCode::kDataLoss);
  }
}

TEST(DocumentsTest, BeginAtTheirMarks) {
  const auto documents =
      SplitDocuments("@@@DOC\tx/1\tTitle\nOne.\n\n@@@DOC\tx/2\tT\n@@@DOC\tx/3\tT\nThree", "f.txt");
  ASSERT_EQ(documents.size(), 3u);
  EXPECT_EQ(documents[0].id, "x/1");
  EXPECT_EQ(documents[0].text, "One.\n\n");
  EXPECT_EQ(documents[1].text, "");
  EXPECT_EQ(documents[2].id, "x/3");
  EXPECT_EQ(documents[2].text, "Three");
  const auto plain = SplitDocuments("Just text.", "/some/where/f.txt");
  ASSERT_EQ(plain.size(), 1u);
  EXPECT_EQ(plain[0].id, "f.txt");
}

TEST(DocumentsTest, AboutOneOfTwentyIsHeldOut) {
  int held_out = 0;
  for (int i = 0; i < 10'000; ++i) {
    const std::string id = absl::StrCat("document-", i);
    EXPECT_NE(InSplit(Split::kHeldOut, id), InSplit(Split::kTraining, id));
    held_out += InSplit(Split::kHeldOut, id) ? 1 : 0;
  }
  EXPECT_NEAR(held_out, 500, 100);
}

// bAbI's ids count up, in files of a few hundred stories as of some thousands.
TEST(DocumentsTest, OfEachFileOfStoriesAboutOneOfTwentyIsHeldOut) {
  constexpr int kStories = 2000;
  for (int task = 1; task <= 20; ++task) {
    int held_out = 0;
    for (int i = 0; i < kStories; ++i) {
      const std::string id = absl::StrCat("qa", task, "-train-", i);
      EXPECT_NE(tasks::StoryInSplit(Split::kHeldOut, id),
                tasks::StoryInSplit(Split::kTraining, id));
      held_out += tasks::StoryInSplit(Split::kHeldOut, id) ? 1 : 0;
    }
    // 100 are expected; of a fair hash the deviation is sqrt(2000 * 0.05 * 0.95) = 9.7.
    EXPECT_NEAR(held_out, 100, 5 * 9.7) << task;
  }
}

TEST_F(FilesTest, ACorpusIsTheTokensOfItsDocuments) {
  const auto tokenizer = Tokenizer::Load(RASQ_SOURCE_DIR "/models/default");
  ASSERT_TRUE(tokenizer.ok());
  std::string text;
  std::vector<std::string> lines;
  for (int i = 0; i < 60'000; ++i) {
    lines.push_back(absl::StrCat("  line ", i, i % 3 == 0 ? ".\n" : ""));
  }
  const Document longer{.id = "a", .text = absl::StrJoin(lines, "\n")};
  const Document shorter{.id = "b", .text = "The end.\n"};
  const Corpus corpus = Corpus::FromDocuments({longer, shorter}, **tokenizer, /*num_threads=*/3);
  std::vector<int32_t> want = (*tokenizer)->Encode(longer.text);
  EXPECT_EQ(corpus.document_starts(), (std::vector<int64_t>{0, static_cast<int64_t>(want.size())}));
  const std::vector<int32_t> end = (*tokenizer)->Encode(shorter.text);
  want.insert(want.end(), end.begin(), end.end());
  EXPECT_EQ(corpus.tokens(), want);

  tasks::Random random(4);
  std::vector<int32_t> slice;
  corpus.AppendSlice(random, 2 * corpus.num_tokens(), slice);  // around the end
  EXPECT_EQ(static_cast<int64_t>(slice.size()), 2 * corpus.num_tokens());
}

TEST(CorpusTest, NoTokenOfASliceComesTwice) {
  std::string text;
  for (char c = '!'; c <= '~'; ++c) text += c;
  const auto bytes = Tokenizer::OfBytes();
  const Corpus corpus = Corpus::FromDocuments({{.id = "a", .text = text}}, *bytes, 1);
  int pieces = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    tasks::Random random(seed);
    std::vector<int32_t> slice;
    corpus.AppendSlice(random, corpus.num_tokens() - 3, slice);
    ASSERT_EQ(static_cast<int64_t>(slice.size()), corpus.num_tokens() - 3);
    const std::set<int32_t> different(slice.begin(), slice.end());
    EXPECT_EQ(different.size(), slice.size());
    // In one piece only the end of the text is followed by what does not follow there.
    int cuts = 0;
    for (size_t i = 1; i < slice.size(); ++i) cuts += slice[i] != slice[i - 1] + 1 ? 1 : 0;
    pieces += cuts > 1 ? 1 : 0;
  }
  EXPECT_NEAR(pieces, 200 * 0.3, 30);
}

TEST_F(FilesTest, ACorpusNeedsText) {
  const auto tokenizer = Tokenizer::OfBytes();
  const std::string path = Write("a.txt", "");
  const auto corpus = Corpus::Load({path}, *tokenizer, Split::kTraining, 1);
  EXPECT_EQ(corpus.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(corpus.status().message(), path));
}

constexpr absl::string_view kStory =
    R"({"task": "qa1", "story_id": "s-0", "lines": [{"n": 1, "text": "Ann went to the yard."}, )"
    R"({"n": 2, "question": "Where is Ann?", "answer": "yard", "support": [1]}]})";

TEST_F(FilesTest, ReadsBabi) {
  const std::string path = Write("babi.jsonl", absl::StrCat(kStory, "\n\n", kStory, "\n"));
  const Split split =
      tasks::StoryInSplit(Split::kTraining, "s-0") ? Split::kTraining : Split::kHeldOut;
  const auto stories = ReadBabi(path, split);
  ASSERT_TRUE(stories.ok()) << stories.status();
  ASSERT_EQ(stories->size(), 2u);
  EXPECT_EQ((*stories)[0].task, 1);
  const tasks::Episode& episode = (*stories)[0].episode;
  EXPECT_EQ(episode.facts, (std::vector<std::string>{"Ann went to the yard."}));
  ASSERT_EQ(episode.questions.size(), 1u);
  EXPECT_EQ(episode.questions[0].answer, "yard");
  EXPECT_EQ(episode.questions[0].evidence[0].fact, 0);
  EXPECT_EQ(episode.questions[0].until_fact, 1);
}

TEST_F(FilesTest, FaultsAreNamed) {
  const auto message = [&](const std::string& bad) {
    return std::string(ReadBabi(Write("b.jsonl", absl::StrCat(kStory, "\n", bad)), Split::kTraining)
                           .status()
                           .message());
  };
  EXPECT_TRUE(absl::StrContains(message("{"), "b.jsonl:2"));
  EXPECT_TRUE(absl::StrContains(message(R"({"task": "qa1"})"), "b.jsonl:2: story_id"));
  EXPECT_TRUE(absl::StrContains(message(R"({"task": "qa21", "story_id": "x"})"), "qa21"));
  // Among many ids some are of the split.
  std::string lines;
  for (int i = 0; i < 20; ++i) {
    absl::StrAppend(&lines, R"({"task": "qa1", "story_id": ")", i,
                    R"(", "lines": [{"n": 1, "question": "?", "answer": "a", "support": [7]}]})",
                    "\n");
  }
  EXPECT_TRUE(absl::StrContains(message(lines), "support=7"));
}

TEST_F(FilesTest, ReadsSpanQuestionsInBothFormats) {
  const std::string context = R"("Caf\u00e9s open late. The Sphinx sits in Giza. Nobody knows.")";
  const std::string qas =
      R"("qas": [{"question": "Where? ", "answers": [{"text": "Giza", "START": 36}]},
                 {"question": "Who?", "answers": []},
                 {"question": "Wrong", "answers": [{"text": "Giza", "START": 3}]}])";
  const auto with = [&](absl::string_view start) {
    std::string text = absl::StrCat(R"("context": )", context, ", ", qas);
    for (size_t at = text.find("START"); at != std::string::npos; at = text.find("START")) {
      text.replace(at, 5, start.data(), start.size());
    }
    text.erase(std::remove(text.begin(), text.end(), '\n'), text.end());
    return text;
  };
  const std::string lines =
      Write("q.jsonl", absl::StrCat(R"({"title": "t", )", with("start"), "}\n"));
  const std::string squad =
      Write("q.json", absl::StrCat(R"({"version": "2", "data": [{"title": "t", "paragraphs": [{)",
                                   with("answer_start"), "}]}]}"));
  const Split split = InSplit(Split::kTraining, "t") ? Split::kTraining : Split::kHeldOut;
  for (const std::string& path : {lines, squad}) {
    const auto passages = ReadSpanQuestions(path, split);
    ASSERT_TRUE(passages.ok()) << passages.status();
    ASSERT_EQ(passages->size(), 1u);
    const tasks::Episode& passage = (*passages)[0];
    ASSERT_EQ(passage.questions.size(), 1u);
    EXPECT_EQ(passage.questions[0].text, "Where?");
    EXPECT_EQ(passage.questions[0].answer, "Giza");
    const tasks::Span span = passage.questions[0].evidence[0];
    EXPECT_EQ(passage.facts[0].substr(span.begin, span.end - span.begin),
              "The Sphinx sits in Giza.");
    const Split other = split == Split::kTraining ? Split::kHeldOut : Split::kTraining;
    EXPECT_TRUE(ReadSpanQuestions(path, other)->empty());
  }
}

TEST_F(FilesTest, ReadsDialogues) {
  std::string lines;
  for (int i = 0; i < 200; ++i) {
    absl::StrAppend(
        &lines, R"({"id": "d)", i,
        R"(", "turns": [{"speaker": "USER", "text": "To Bern, please."},)",
        R"({"speaker": "SYSTEM", "text": "Bern, on Monday?"}, {"speaker": "USER", "text": "Yes."}],)",
        R"("final_slots": {"Trains_1": {"to_city": ["Bern"], "seats": ["dontcare"]}}})", "\n");
  }
  const std::string path = Write("d.jsonl", lines);
  const auto training = ReadSlotDialogues(path, Split::kTraining);
  const auto held_out = ReadSlotDialogues(path, Split::kHeldOut);
  ASSERT_TRUE(training.ok()) << training.status();
  EXPECT_EQ(training->size() + held_out->size(), 200u);
  const tasks::Episode& dialogue = (*training)[0];
  EXPECT_EQ(dialogue.facts[0], "USER: To Bern, please.");
  ASSERT_EQ(dialogue.questions.size(), 1u);
  EXPECT_TRUE(absl::StrContains(dialogue.questions[0].text, "to city"));
  EXPECT_EQ(dialogue.questions[0].evidence[0].fact, 1);  // the last that says so
  EXPECT_EQ(dialogue.questions[0].after_fact, 3);
  // Meetings have turns alone.
  const std::string meetings =
      Write("m.jsonl", absl::StrCat(R"({"id": "d0", "turns": []})", "\n", R"({"id": "d1", )",
                                    R"("turns": [{"speaker": "A", "text": "B"}]})"));
  for (const Split split : {Split::kTraining, Split::kHeldOut}) {
    const auto none = ReadSlotDialogues(meetings, split);
    ASSERT_TRUE(none.ok()) << none.status();
    EXPECT_TRUE(none->empty());
  }
  const auto text = ReadDialogueText(path, Split::kTraining);
  ASSERT_TRUE(text.ok());
  EXPECT_TRUE(absl::StartsWith((*text)[0].text, "USER: To Bern, please.\nSYSTEM: Bern"));
  const auto corpus = Corpus::Load({path}, *Tokenizer::OfBytes(), Split::kTraining, 1);
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  EXPECT_EQ(corpus->document_starts().size(), text->size());
}

}  // namespace
}  // namespace rasq::train
