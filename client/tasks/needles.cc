#include "client/tasks/needles.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/tasks/names.h"
#include "client/tasks/values.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {
namespace {

// What a value is called, by its kind.
absl::string_view Label(NeedleKind kind) {
  switch (kind) {
    case NeedleKind::kWords:
      return "vault word";
    case NeedleKind::kNumbers:
      return "vault number";
    case NeedleKind::kUuids:
      return "vault id";
  }
  return "";
}

std::string MakeUuid(Random& random) {
  const uint64_t high = random.Next(), low = random.Next();
  return absl::StrFormat("%08x-%04x-%04x-%04x-%012x", high >> 32, (high >> 16) & 0xFFFF,
                         high & 0xFFFF, low >> 48, low & 0xFFFFFFFFFFFFu);
}

// Words are the split's if it is given.
std::string MakeText(Random& random, const Split* split, NeedleKind kind) {
  switch (kind) {
    case NeedleKind::kWords: {
      const auto pick = [&](const Words& words) {
        return split == nullptr ? random.Pick(words) : PickFrom(random, *split, words);
      };
      return Concat({pick(Adjectives()), "-", pick(Nouns())});
    }
    case NeedleKind::kNumbers:
      return absl::StrCat(random.Between(1'000'000, 9'999'999));
    case NeedleKind::kUuids:
      return MakeUuid(random);
  }
  return "";
}

std::string Sentence(NeedleKind kind, const std::string& key, const std::string& value) {
  return absl::StrCat("One ", Label(kind), " of ", key, " is ", value, ".");
}

}  // namespace

Needles MakeNeedles(Random& random, Split split, const NeedleOptions& options) {
  struct Told {
    int key;
    std::string value;
  };
  std::set<std::string> used;  // keys and values: each says something of one thing alone
  const auto fresh = [&](const Split* words, NeedleKind kind) {
    return MakeFresh(used, [&] { return MakeText(random, words, kind); });
  };
  std::vector<std::string> keys;
  std::vector<Told> told;
  for (int key = 0; key < options.num_keys; ++key) {
    keys.push_back(fresh(&split, options.keys));
    for (int i = 0; i < options.num_values; ++i) {
      told.push_back({.key = key, .value = fresh(&split, options.values)});
    }
  }
  random.Shuffle(told);

  Needles needles;
  Episode& episode = needles.episode;
  for (const Told& one : told) {
    episode.facts.push_back(Sentence(options.values, keys[one.key], one.value));
  }
  const bool one_value = options.num_values == 1 && options.num_queries == 1;
  for (int first = 0; first < options.num_keys; first += options.num_queries) {
    const int end = std::min(first + options.num_queries, options.num_keys);
    const std::vector<std::string> asked(keys.begin() + first, keys.begin() + end);
    Question question{.text = absl::StrCat(one_value ? "What is the " : "What are all the ",
                                           Label(options.values), one_value ? "" : "s", " of ",
                                           JoinList(asked), "?"),
                      .judged = Judged::kContainsAll};
    for (size_t fact = 0; fact < told.size(); ++fact) {
      if (told[fact].key < first || told[fact].key >= end) continue;
      question.references.push_back(told[fact].value);
      question.evidence.push_back(WholeFact(episode, static_cast<int>(fact)));
    }
    question.answer = JoinList(question.references);
    episode.questions.push_back(std::move(question));
  }
  LetAnswersHoldToTheEnd(episode);
  // A split alone has too few words for many keys; nobody is asked for these.
  for (int i = 0; i < options.num_others; ++i) {
    const std::string key = fresh(nullptr, options.keys);
    needles.others.push_back(Sentence(options.values, key, fresh(nullptr, options.values)));
  }
  return needles;
}

std::vector<std::string> NoiseSentences() {
  return {"The road is long. The hills are low. The wind goes on.",
          "Clouds pass and nothing changes. Here it begins once more."};
}

}  // namespace rasq::tasks
