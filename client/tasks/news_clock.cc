#include "client/tasks/news_clock.h"

#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/tasks/values.h"

namespace rasq::tasks {
namespace {

// The last of all is an evaluation's.
constexpr int64_t kNumStyles = 17;
constexpr int64_t kHeldOutStyle = kNumStyles - 1;

// What is counted, and how a question says so.
struct Counted {
  absl::string_view name, preposition;
};
constexpr std::array<Counted, 12> kCounted = {{{"week", "in"},
                                               {"round", "in"},
                                               {"chapter", "in"},
                                               {"step", "at"},
                                               {"entry", "in"},
                                               {"bulletin", "in"},
                                               {"issue", "in"},
                                               {"stage", "at"},
                                               {"session", "in"},
                                               {"page", "on"},
                                               {"tick", "at"},
                                               {"message", "in"}}};

std::string Capital(absl::string_view word) {
  std::string text(word);
  text[0] = absl::ascii_toupper(text[0]);
  return text;
}

}  // namespace

NewsClock::NewsClock(Random& random, Split split)
    : random_(random),
      style_(split == Split::kTraining ? random.Below(kNumStyles - 1) : kHeldOutStyle),
      word_(random.Below(kCounted.size())),
      minutes_(random.Below(600)),
      day_(random.Between(1, 60)),
      count_(random.Between(1, 30)) {}

void NewsClock::Advance() {
  minutes_ += random_.Between(1, 40);
  day_ += random_.Between(1, 3);
  count_ += random_.Between(1, 4);
}

std::string NewsClock::Prefix() const {
  const absl::string_view counted = kCounted[word_].name;
  switch (style_) {
    case 0:
      return absl::StrCat("[", Hour(), "] ");
    case 1:
      return absl::StrCat(Hour(), " - ");
    case 2:
      return absl::StrCat("At ", Hour(), ": ");
    case 3:
      return absl::StrCat("(", Hour(), ") ");
    case 4:
      return absl::StrCat(Date(), ": ");
    case 5:
      return absl::StrCat("Day ", day_, ". ");
    case 6:
      return absl::StrCat(IsoDate(), " ");
    case 7:
      return absl::StrCat(IsoDate(), " ", Hour(), " ");
    case 8:
      return absl::StrCat("On ", Date(), ", ");
    case 9:
      return absl::StrCat(Hour(), "h ");
    case 10:
      return absl::StrCat(Capital(counted), " ", count_, ": ");
    case 11:
      return absl::StrCat("[", counted, " ", count_, "] ");
    case 12:
      return absl::StrCat("t=", minutes_, " ");
    case 13:
      return absl::StrCat("#", count_, " ");
    case 14:
      return absl::StrCat("(", counted, " ", count_, ") ");
    case 15:
      return absl::StrCat(Months()[day_ / 28 % 12], " ", day_ % 28 + 1, " - ");
    default:
      return absl::StrCat(Hour(), " | ");
  }
}

std::string NewsClock::At() const {
  switch (style_) {
    case 4:
    case 8:
      return absl::StrCat("on ", Date());
    case 5:
      return absl::StrCat("on day ", day_);
    case 6:
      return absl::StrCat("on ", IsoDate());
    case 7:
      return absl::StrCat("on ", IsoDate(), " at ", Hour());
    case 10:
    case 11:
    case 14:
      return absl::StrCat(kCounted[word_].preposition, " ", kCounted[word_].name, " ", count_);
    case 12:
      return absl::StrCat("at t=", minutes_);
    case 13:
      return absl::StrCat("in #", count_);
    case 15:
      return absl::StrCat("on ", Months()[day_ / 28 % 12], " ", day_ % 28 + 1);
    default:
      return absl::StrCat("at ", Hour());
  }
}

std::string NewsClock::Hour() const {
  return absl::StrFormat("%02d:%02d", minutes_ / 60 % 24, minutes_ % 60);
}

// Months of 28 days are as good as others here.
std::string NewsClock::Date() const {
  return absl::StrCat(day_ % 28 + 1, " ", Months()[day_ / 28 % 12]);
}

std::string NewsClock::IsoDate() const {
  return absl::StrFormat("%04d-%02d-%02d", 2031 + day_ / 336, day_ / 28 % 12 + 1, day_ % 28 + 1);
}

}  // namespace rasq::tasks
