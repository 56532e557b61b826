// The memory of states: slots of one size, allocated once. Each slot in use is held by one
// Slot, which gives it back when it goes: so a slot cannot leak or be released twice.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/base/mutex.h"
#include "kernels/ops.h"

namespace rasq {

// How many sessions' states there is room for.
struct SlotRoom {
  int64_t free_bytes = 0;     // on the device
  int64_t reserve_bytes = 0;  // to be left free
  int64_t other_bytes = 0;    // to be allocated beside the sessions' states
  int64_t slot_bytes = 0;     // of one state, > 0
};
// At least one: kResourceExhausted if not even that fits, and says what would be needed.
absl::StatusOr<int32_t> SlotsThatFit(const SlotRoom& room);

class SlotPool;

// Holds one slot. Movable; empty when default-made or moved from.
class Slot {
 public:
  Slot() = default;
  Slot(Slot&& other) noexcept { *this = std::move(other); }
  Slot& operator=(Slot&& other) noexcept;
  ~Slot();

  std::byte* data() const { return data_; }
  explicit operator bool() const { return pool_ != nullptr; }

 private:
  friend class SlotPool;
  Slot(SlotPool* pool, int32_t index, std::byte* data) : pool_(pool), index_(index), data_(data) {}
  SlotPool* pool_ = nullptr;
  int32_t index_ = -1;
  std::byte* data_ = nullptr;
};

// May be used by many threads at once; outlives its slots.
class SlotPool {
 public:
  static absl::StatusOr<std::unique_ptr<SlotPool>> Create(Ops& ops, int32_t num_slots,
                                                          int64_t slot_bytes);
  // The same in host memory that copies run fastest with.
  static absl::StatusOr<std::unique_ptr<SlotPool>> CreateOnHost(Ops& ops, int32_t num_slots,
                                                                int64_t slot_bytes);

  // An empty Slot if none is free. The content is what the last holder left.
  Slot Acquire();
  int32_t num_slots() const { return num_slots_; }
  int64_t slot_bytes() const { return slot_bytes_; }
  int32_t num_used() const;
  int64_t bytes() const { return num_slots_ * slot_bytes_; }

 private:
  friend class Slot;
  SlotPool(std::unique_ptr<Buffer> memory, int32_t num_slots, int64_t slot_bytes);
  void Release(int32_t index);

  const std::unique_ptr<Buffer> memory_;
  const int32_t num_slots_;
  const int64_t slot_bytes_;
  mutable Mutex mu_;
  std::vector<int32_t> free_ ABSL_GUARDED_BY(mu_);
};

}  // namespace rasq
