#include "client/tasks/variable_tracking.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/tasks/names.h"
#include "client/tasks/wording.h"

namespace rasq::tasks {
namespace {

constexpr int kNameLetters = 5;

struct Chain {
  std::string value;
  std::vector<std::string> names;
  std::vector<Span> evidence;
};

}  // namespace

Episode MakeVariableTracking(Random& random, Split split, const VariableTrackingOptions& options) {
  const auto make_name = [&] {
    return MakeFitting(split, [&] {
      std::string name;
      for (int i = 0; i < kNameLetters; ++i) name += static_cast<char>('A' + random.Below(26));
      return name;
    });
  };
  std::set<std::string> used;
  std::vector<Chain> chains(options.num_chains);
  std::vector<size_t> order;  // which chain goes on next
  for (size_t i = 0; i < chains.size(); ++i) {
    chains[i].value = MakeFresh(used, [&] { return absl::StrCat(random.Between(10'000, 99'999)); });
    order.insert(order.end(), options.num_hops + 1, i);
  }
  random.Shuffle(order);

  Episode episode;
  for (const size_t i : order) {
    Chain& chain = chains[i];
    const std::string name = MakeFresh(used, make_name);
    episode.facts.push_back(chain.names.empty()
                                ? absl::StrCat("VAR ", name, " = ", chain.value)
                                : absl::StrCat("VAR ", name, " = VAR ", chain.names.back()));
    chain.names.push_back(name);
    chain.evidence.push_back(WholeFact(episode, static_cast<int>(episode.facts.size()) - 1));
  }
  for (Chain& chain : chains) {
    episode.questions.push_back(
        {.text = absl::StrCat("Which variables have the value ", chain.value, "?"),
         .answer = JoinList(chain.names),
         .evidence = std::move(chain.evidence),
         .judged = Judged::kContainsAll,
         .references = chain.names});
  }
  LetAnswersHoldToTheEnd(episode);
  return episode;
}

}  // namespace rasq::tasks
