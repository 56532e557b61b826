#include "client/tasks/world.h"

#include <algorithm>
#include <cstddef>
#include <functional>

namespace rasq::tasks {

World::World(int num_people, int num_objects) : people_(num_people), objects_(num_objects) {}

void World::Arrive(Object& object, const Person& holder) {
  if (holder.place == kUnknown) return;
  object.place_fact = holder.fact;
  if (!object.visits.empty() && object.visits.back().place == holder.place) return;
  object.visits.push_back({.place = holder.place, .fact = holder.fact});
}

void World::Move(int fact, int person, int place) {
  people_[person] = {.place = place, .fact = fact};
  for (Object& object : objects_) {
    if (object.holder == person) Arrive(object, people_[person]);
  }
}

void World::Take(int fact, int person, int object) {
  objects_[object].holder = person;
  objects_[object].handled = fact;
  Arrive(objects_[object], people_[person]);
}

void World::Drop(int fact, int person, int object) {
  Arrive(objects_[object], people_[person]);
  objects_[object].holder = kNobody;
  objects_[object].handled = fact;
}

void World::Give(int fact, int giver, int object, int receiver) {
  gifts_.push_back({.giver = giver, .object = object, .receiver = receiver, .fact = fact});
  objects_[object].holder = receiver;
  objects_[object].handled = fact;
  Arrive(objects_[object], people_[receiver]);
}

std::optional<World::Answer> World::PlaceOf(int person) const {
  const Person& known = people_[person];
  if (known.place == kUnknown) return std::nullopt;
  return Answer{.id = known.place, .facts = {known.fact}};
}

std::optional<World::Answer> World::PlaceOfObject(int object) const {
  const Object& known = objects_[object];
  if (known.visits.empty()) return std::nullopt;
  Answer answer{.id = known.visits.back().place, .facts = {known.handled, known.place_fact}};
  std::sort(answer.facts.begin(), answer.facts.end(), std::greater<>());
  return answer;
}

std::optional<size_t> World::LastVisit(const Object& object, int place) const {
  for (size_t i = object.visits.size(); i > 1; --i) {
    if (object.visits[i - 1].place == place) return i - 1;
  }
  return std::nullopt;
}

std::optional<World::Answer> World::PlaceBefore(int object, int place) const {
  const Object& known = objects_[object];
  const std::optional<size_t> visit = LastVisit(known, place);
  if (!visit.has_value()) return std::nullopt;
  const Visit& before = known.visits[*visit - 1];
  Answer answer{.id = before.place,
                .facts = {known.handled, known.visits[*visit].fact, before.fact}};
  std::sort(answer.facts.begin(), answer.facts.end(), std::greater<>());
  return answer;
}

std::vector<int> World::PlacesWithBefore(int object) const {
  std::vector<int> places;
  for (size_t i = 1; i < objects_[object].visits.size(); ++i) {
    const int place = objects_[object].visits[i].place;
    if (std::find(places.begin(), places.end(), place) == places.end()) places.push_back(place);
  }
  return places;
}

}  // namespace rasq::tasks
