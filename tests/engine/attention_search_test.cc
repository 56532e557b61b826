// What a search of strategy attention_rag asks of its probes and makes of what they say: prompts,
// the sentences that are kept, and what is dropped.
#include "engine/attention_search.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rasq {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Ids = std::vector<int32_t>;

Ids Bytes(const std::string& text) { return {text.begin(), text.end()}; }

// Ids are bytes; a sentence ends with a full stop.
std::vector<bool> FullStops() {
  std::vector<bool> ends(256);
  ends['.'] = true;
  return ends;
}

std::string Kept(const std::string& chunk, const std::vector<double>& scores, int32_t top) {
  std::string kept;
  for (const KeptSentence& sentence : KeptSentences(Bytes(chunk), scores, top, FullStops())) {
    absl::StrAppend(&kept, "[", chunk.substr(sentence.begin, sentence.end - sentence.begin), "]",
                    sentence.score);
  }
  return kept;
}

TEST(KeptSentencesTest, HoldTheTokensOfHighestScore) {
  const std::string chunk = "ab.c.de";
  EXPECT_EQ(Kept(chunk, {1, 2, 3, 9, 5, 6, 7}, 1), "[c.]9");
  EXPECT_EQ(Kept(chunk, {1, 2, 3, 9, 5, 6, 7}, 2), "[c.]9[de]7");
  EXPECT_EQ(Kept(chunk, {1, 2, 3, 9, 5, 6, 7}, 4), "[c.]9[de]7");
  EXPECT_EQ(Kept(chunk, {1, 2, 3, 9, 5, 6, 7}, 5), "[ab.]3[c.]9[de]7");
  EXPECT_EQ(Kept(chunk, {1, 2, 3, 9, 5, 6, 7}, 100), "[ab.]3[c.]9[de]7");
  EXPECT_EQ(Kept(chunk, {1, 1, 1, 1, 1, 1, 1}, 4), "[ab.]1[c.]1");  // the earlier of equals
  EXPECT_EQ(Kept(chunk, {4, 1, 1, 3, 2, 9}, 1), "[de]9");           // the first token has no score
  EXPECT_EQ(Kept(chunk, {4, 1, 1, 3, 2, 1}, 1), "[ab.]4");
  EXPECT_EQ(Kept("abc", {1, 2, 3}, 1), "[abc]3");
  EXPECT_EQ(Kept("...", {1, 3, 2}, 2), "[.]3[.]2");
  EXPECT_EQ(Kept("ab", {}, 3), "");
}

TEST(SaysNoneTest, NoneAndNothing) {
  for (const char* anchor : {"none", " None", "NONE.", "\"none\"", "(no ne)", "", "  ", "\n"}) {
    EXPECT_TRUE(SaysNone(anchor)) << anchor;
  }
  for (const char* anchor : {"no", "on", " Daniel", "n", "?", "anone", "\xC3\xA9"}) {
    EXPECT_FALSE(SaysNone(anchor)) << anchor;
  }
}

absl::StatusOr<std::shared_ptr<const SearchPrompts>> Prompts(const AttentionRagOptions& options) {
  return SearchPrompts::Create(options, *Tokenizer::OfBytes());
}

TEST(SearchPromptsTest, PartsStandInTheirPlaces) {
  const auto plain = Prompts({});
  ASSERT_TRUE(plain.ok()) << plain.status();
  const Ids chunk = Bytes("abc"), question = Bytes("xy"), hint = Bytes("h");
  const SearchPrompts::Parts parts{.chunk = chunk, .question = question, .hint = hint};
  EXPECT_EQ((*plain)->AnchorPrompt(parts).ids, Bytes("abcxyh"));
  EXPECT_EQ((*plain)->AnchorPrompt(parts).chunk_begin, 0);
  EXPECT_EQ((*plain)->MaxTokens(3, 2), 3 + 2 + 1);
  EXPECT_FALSE((*plain)->asks_for_hint());

  const auto full = Prompts(
      {.anchor_prompt = "Q {question} {x} H {hint} C {chunk}!", .hint_prompt = "{question}->"});
  ASSERT_TRUE(full.ok()) << full.status();
  const SearchPrompts::Prompt anchor = (*full)->AnchorPrompt(parts);
  EXPECT_EQ(anchor.ids, Bytes("Q xy {x} H h C abc!"));
  EXPECT_EQ(anchor.chunk_begin, 15);
  EXPECT_EQ((*full)->HintPrompt(question).ids, Bytes("xy->"));
  EXPECT_EQ((*full)->MaxTokens(3, 2), 13 + 3 + 2 + kMaxHintTokens + 1);
  EXPECT_TRUE((*full)->asks_for_hint());

  const auto fixed = Prompts({.anchor_prompt = "{chunk}{question}", .hint = "ab"});
  ASSERT_TRUE(fixed.ok()) << fixed.status();
  EXPECT_EQ((*fixed)->fixed_hint(), Bytes("ab"));
  EXPECT_EQ((*fixed)->MaxTokens(3, 2), 3 + 2 + 1);
}

TEST(SearchPromptsTest, WhatIsMissingOrTooMuchIsNamed) {
  const auto error = [](const AttentionRagOptions& options) {
    const absl::Status status = Prompts(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(error({.anchor_prompt = "{question}"}),
              HasSubstr("anchor_prompt: has {chunk} 0 times, must have it 1"));
  EXPECT_THAT(error({.anchor_prompt = "{chunk}{chunk}{question}"}), HasSubstr("{chunk} 2 times"));
  EXPECT_THAT(error({.anchor_prompt = "{chunk}"}), HasSubstr("{question} 0 times"));
  EXPECT_THAT(error({.anchor_prompt = "{chunk}{question}{hint}{hint}"}),
              HasSubstr("{hint} 2 times, must have it 0 to 1"));
  EXPECT_THAT(error({.hint_prompt = "How?"}), HasSubstr("hint_prompt: has {question} 0 times"));
  EXPECT_THAT(error({.hint_prompt = "{question}{chunk}"}), HasSubstr("hint_prompt: has {chunk} 1"));
  EXPECT_THAT(error({.hint_prompt = "{question}", .hint = "x"}), HasSubstr("attention_rag.hint"));
  EXPECT_THAT(error({.hint = std::string(4097, 'x')}), HasSubstr("hint: has 4097 bytes"));
}

// A search over a text of bytes in chunks of 8, whose probes are answered by hand.
class AttentionSearchTest : public ::testing::Test {
 protected:
  void Begin(const std::string& text, const AttentionRagOptions& options, int places) {
    prompts_ = *Prompts(options);
    layout_.shape = {.window_rows = 64, .segment_rows = 4, .ring_rows = 68};
    std::vector<Passage> chunks;
    for (size_t at = 0; at < text.size(); at += 8) {
      chunks.push_back({.position = static_cast<int64_t>(at),
                        .input = std::make_shared<Input>(Input{.ids = Bytes(text.substr(at, 8))})});
    }
    states_.resize(places);
    std::vector<std::byte*> states;
    for (std::byte& state : states_) states.push_back(&state);
    search_ =
        std::make_unique<AttentionSearch>(AttentionSearch::Setup{.prompts = prompts_.get(),
                                                                 .tokenizer = tokenizer_.get(),
                                                                 .ends_sentence = &ends_,
                                                                 .layout = &layout_,
                                                                 .top_tokens = 1,
                                                                 .num_layers = 2,
                                                                 .hidden = 1,
                                                                 .eos = {},
                                                                 .question = Bytes("?"),
                                                                 .chunks = std::move(chunks)},
                                          states);
  }
  // Takes what the probe reads.
  std::string Read(int place) {
    std::string text;
    Probe& probe = search_->probes()[place];
    for (const InputToken& token : probe.queue.Pop(probe.queue.size())) {
      text.push_back(static_cast<char>(token.id));
    }
    return text;
  }
  void Say(int place, char token, float logprob = -1) {
    search_->Advance(search_->probes()[place], {.token = token, .logprob = logprob});
  }
  // The chunk's token of that index has all attention, what stands around the chunk has more.
  void Attend(int place, int64_t index, float weight) {
    Probe& probe = search_->probes()[place];
    EXPECT_EQ(probe.task, Probe::Task::kScore);
    EXPECT_FALSE(probe.draws());
    probe.key_weights.assign(probe.chunk_begin + 8 + 10, 100);
    for (int i = 0; i < 8; ++i) probe.key_weights[probe.chunk_begin + i] = 0;
    probe.key_weights[probe.chunk_begin + index] = weight;
    search_->Advance(probe, {});
  }
  std::vector<std::string> Found(int64_t most_tokens = 1000) {
    std::vector<std::string> found;
    for (const Passage& passage : search_->Found(most_tokens)) {
      const Ids& ids = passage.input->ids;
      found.push_back(absl::StrCat(passage.position, ":", std::string(ids.begin(), ids.end()), ":",
                                   passage.score));
    }
    return found;
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::OfBytes();
  const std::vector<bool> ends_ = FullStops();
  std::shared_ptr<const SearchPrompts> prompts_;
  StateLayout layout_;
  std::vector<std::byte> states_;
  std::unique_ptr<AttentionSearch> search_;
};

TEST_F(AttentionSearchTest, ChunksAreReadByWhoeverIsFreeAndComeInOrder) {
  Begin("aaa.bbb.cccc.dddeee.fffg", {.anchor_prompt = "<{chunk}|{question}"}, /*places=*/2);
  EXPECT_EQ(search_->num_tokens(), 24);
  EXPECT_THAT(search_->Parts(100), ElementsAre(4, 4, 3, 4, 4, 3));  // of 11 tokens each
  EXPECT_THAT(search_->Parts(4), ElementsAre(4));
  EXPECT_THAT(search_->Parts(5), ElementsAre(4, 4));  // whole parts
  EXPECT_EQ(Read(0), "<aaa.bbb.|?");
  EXPECT_EQ(Read(1), "<cccc.ddd|?");
  Say(1, 'x');
  EXPECT_EQ(Read(1), "x");
  Attend(1, 7, 0.5f);
  EXPECT_EQ(Read(1), "<eee.fffg|?");
  Say(0, 'y');
  EXPECT_EQ(Read(0), "y");
  Attend(0, 1, 0.25f);
  EXPECT_FALSE(search_->done());
  EXPECT_EQ(search_->probes()[0].task, Probe::Task::kNone);
  EXPECT_THAT(search_->Parts(100), IsEmpty());
  Say(1, 'z');
  Read(1);
  Attend(1, 0, 1);
  ASSERT_TRUE(search_->done());
  EXPECT_THAT(Found(), ElementsAre("0:aaa.:0.125", "13:ddd:0.25", "16:eee.:0.5"));
  EXPECT_THAT(Found(/*most_tokens=*/11), ElementsAre("0:aaa.:0.125", "13:ddd:0.25", "16:eee.:0.5"));
  EXPECT_THAT(Found(10), ElementsAre("13:ddd:0.25", "16:eee.:0.5"));
  EXPECT_THAT(Found(4), ElementsAre("16:eee.:0.5"));
}

TEST_F(AttentionSearchTest, ChunksThatSayNothingAreDropped) {
  Begin("aaa.bbb.cccc.dddeee.fffg", {}, /*places=*/1);
  for (const char said : {' ', 'x', '\n'}) {
    Read(0);
    Say(0, said);
    if (said == 'x') {
      Read(0);
      Attend(0, 2, 1);
    }
  }
  ASSERT_TRUE(search_->done());
  EXPECT_THAT(Found(), ElementsAre("8:cccc.:0.5"));
}

TEST_F(AttentionSearchTest, OfOnlyDroppedChunksTheLeastCertainIsKept) {
  for (const auto& [logprobs, want] :
       std::vector<std::pair<std::vector<float>, std::string>>{{{-1, -3, -2}, "8:cccc.ddd:0"},
                                                               {{-3, -1, -3}, "16:eee.fffg:0"},
                                                               {{0, 0, -0.5f}, "16:eee.fffg:0"}}) {
    Begin("aaa.bbb.cccc.dddeee.fffg", {}, /*places=*/3);
    for (const int place : {2, 0, 1}) {
      Read(place);
      Say(place, ' ', logprobs[place]);
    }
    ASSERT_TRUE(search_->done());
    EXPECT_THAT(Found(), ElementsAre(want));
  }
}

TEST_F(AttentionSearchTest, TheHintIsTheFirstLine) {
  const AttentionRagOptions options{.hint_prompt = "ask {question}"};
  Begin("aaa.bbb.cccc", options, /*places=*/2);
  EXPECT_EQ(Read(0), "ask ?");
  EXPECT_EQ(search_->probes()[1].task, Probe::Task::kNone);
  Say(0, 'h');
  EXPECT_EQ(Read(0), "h");
  Say(0, 'i');
  EXPECT_EQ(Read(0), "i");
  Say(0, '\n');
  EXPECT_EQ(Read(0), "aaa.bbb.?hi");
  EXPECT_EQ(Read(1), "cccc?hi");
  EXPECT_TRUE(search_->probes()[0].fresh);

  Begin("aaa.bbb.", options, /*places=*/1);  // it has none
  for (const char c : std::string("None.\n")) {
    Read(0);
    Say(0, c);
  }
  EXPECT_EQ(Read(0), "aaa.bbb.?");

  Begin("aaa.bbb.", options, /*places=*/1);  // it does not end
  for (int i = 0; i < kMaxHintTokens; ++i) {
    Read(0);
    Say(0, 'o');
  }
  EXPECT_EQ(Read(0), "aaa.bbb.?" + std::string(kMaxHintTokens, 'o'));
}

}  // namespace
}  // namespace rasq
