// The little world of bAbI's tasks 1, 2, 3 and 5 (Weston et al. 2015, arXiv:1502.05698): people
// move between places, take, drop and give objects. It knows what follows from what was told so
// far, and from which facts; it does not guess: who was never said to be anywhere is nowhere.
#pragma once

#include <optional>
#include <vector>

namespace rasq::tasks {

class World {
 public:
  World(int num_people, int num_objects);

  // What is told, each as the fact of that number. People, places and objects are numbers of the
  // caller's.
  void Move(int fact, int person, int place);
  void Take(int fact, int person, int object);
  void Drop(int fact, int person, int object);
  void Give(int fact, int giver, int object, int receiver);

  struct Answer {
    int id;                  // of a place, person or object
    std::vector<int> facts;  // that it follows from, the newest first
  };
  std::optional<Answer> PlaceOf(int person) const;
  std::optional<Answer> PlaceOfObject(int object) const;
  // Where the object was before it came, the last time, to `place`.
  std::optional<Answer> PlaceBefore(int object, int place) const;
  // The places to ask PlaceBefore about, each once.
  std::vector<int> PlacesWithBefore(int object) const;

  struct Gift {
    int giver, object, receiver;
    int fact;
  };
  const std::vector<Gift>& gifts() const { return gifts_; }  // in time order

  int holder(int object) const { return objects_[object].holder; }  // kNobody: it lies somewhere

  static constexpr int kNobody = -1;

 private:
  static constexpr int kUnknown = -1;
  struct Person {
    int place = kUnknown;
    int fact = -1;  // that says so
  };
  struct Visit {
    int place;
    int fact;  // by which the object, or who then held it, came there
  };
  struct Object {
    int holder = kNobody;
    int handled = -1;           // the last fact in which it changed hands
    int place_fact = -1;        // that says where its last holder was, or is
    std::vector<Visit> visits;  // known ones; two in a row differ in place
  };
  void Arrive(Object& object, const Person& holder);
  // The index of the last visit of `place`, if there is one before it.
  std::optional<size_t> LastVisit(const Object& object, int place) const;

  std::vector<Person> people_;
  std::vector<Object> objects_;
  std::vector<Gift> gifts_;
};

}  // namespace rasq::tasks
