#include "engine/slot_pool.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace rasq {

absl::StatusOr<int32_t> SlotsThatFit(const SlotRoom& room) {
  constexpr int64_t kMost = 1 << 20;  // as max_sessions
  const int64_t left = room.free_bytes - room.reserve_bytes - room.other_bytes;
  if (left < room.slot_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("max_sessions=0: ", room.free_bytes, " bytes are free on the device, but ",
                     room.reserve_bytes + room.other_bytes + room.slot_bytes,
                     " are needed: device_reserve_bytes=", room.reserve_bytes, ", ",
                     room.other_bytes, " for generations and strategies that do not share slots, ",
                     room.slot_bytes, " for the state of one session"));
  }
  return static_cast<int32_t>(std::min(left / room.slot_bytes, kMost));
}

Slot& Slot::operator=(Slot&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(index_, other.index_);
  std::swap(data_, other.data_);
  return *this;
}

Slot::~Slot() {
  if (pool_ != nullptr) pool_->Release(index_);
}

absl::StatusOr<std::unique_ptr<SlotPool>> SlotPool::Create(Ops& ops, int32_t num_slots,
                                                           int64_t slot_bytes) {
  std::unique_ptr<Buffer> memory;
  if (num_slots > 0) {
    RASQ_ASSIGN_OR_RETURN(memory, ops.Allocate(num_slots * slot_bytes));
  }
  return std::unique_ptr<SlotPool>(new SlotPool(std::move(memory), num_slots, slot_bytes));
}

absl::StatusOr<std::unique_ptr<SlotPool>> SlotPool::CreateOnHost(Ops& ops, int32_t num_slots,
                                                                 int64_t slot_bytes) {
  std::unique_ptr<Buffer> memory;
  if (num_slots > 0) {
    RASQ_ASSIGN_OR_RETURN(memory, ops.AllocateHost(num_slots * slot_bytes));
  }
  return std::unique_ptr<SlotPool>(new SlotPool(std::move(memory), num_slots, slot_bytes));
}

SlotPool::SlotPool(std::unique_ptr<Buffer> memory, int32_t num_slots, int64_t slot_bytes)
    : memory_(std::move(memory)), num_slots_(num_slots), slot_bytes_(slot_bytes) {
  for (int32_t i = num_slots - 1; i >= 0; --i) free_.push_back(i);
}

int32_t SlotPool::num_used() const {
  MutexLock lock(mu_);
  return num_slots_ - static_cast<int32_t>(free_.size());
}

void SlotPool::Release(int32_t index) {
  MutexLock lock(mu_);
  free_.push_back(index);
}

Slot SlotPool::Acquire() {
  MutexLock lock(mu_);
  if (free_.empty()) return Slot();
  const int32_t index = free_.back();
  free_.pop_back();
  return Slot(this, index, memory_->data() + index * slot_bytes_);
}

}  // namespace rasq
