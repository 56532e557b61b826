#include <cuda_runtime.h>

#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/base/check_args.h"
#include "kernels/base/cuda_status.h"
#include "kernels/base/status.h"
#include "kernels/block_reduce_cuda.h"
#include "kernels/replace_entries.h"
#include "kernels/stream_batch_cuda.h"

namespace rasq {
namespace {

constexpr int kThreads = 1024;
constexpr int kTile = 1024;  // entrants that are brought to shared memory at a time
// Slots of a group, groups of a supergroup: one for each lane. With two supergroups a lane that
// makes kMostCapacity slots.
constexpr int kGroup = 32;
constexpr int kMostCapacity = 2 * kGroup * kGroup * kGroup;
constexpr int64_t kNobody = INT64_MAX;  // above every priority's key

// Integers in the order of priorities, -0 and 0 the same; NaN counts as -infinity.
__device__ int64_t KeyOf(double priority) {
  if (isnan(priority)) priority = -INFINITY;
  const int64_t bits = __double_as_longlong(priority == 0 ? 0.0 : priority);
  return bits ^ ((bits >> 63) & INT64_MAX);
}

__device__ double PriorityOf(int64_t key) {
  return __longlong_as_double(key ^ ((key >> 63) & INT64_MAX));
}

template <typename T>
__device__ T* InState(const StreamChunk& c, int64_t offset) {
  return reinterpret_cast<T*>(c.state + offset);
}

struct Tile {
  int64_t key[kTile];
  int32_t segment[kTile];  // of the chunk, as which begins the token enters
};

// Who is in which slot, in shared memory.
class SharedTable {
 public:
  static constexpr int64_t kBytesOfSlot = sizeof(int64_t) + sizeof(int32_t);

  __device__ SharedTable(const ReplaceEntriesArgs& a, const StreamChunk& c, std::byte* memory)
      : key_(reinterpret_cast<int64_t*>(memory)),
        entrant_(reinterpret_cast<int32_t*>(key_ + a.shape.capacity)),
        position_(InState<int64_t>(c, a.position_offset)),
        leave_begin_(c.leave_begin) {}

  // The occupant from before the batch; an empty slot's priority does not matter.
  __device__ void Take(int32_t slot, double priority) {
    key_[slot] = KeyOf(priority);
    entrant_[slot] = -1;
  }
  __device__ void Put(int32_t slot, int32_t entrant, int64_t key) {
    key_[slot] = key;
    entrant_[slot] = entrant;
  }
  __device__ int64_t Key(int32_t slot) const { return key_[slot]; }
  // Which of the leaving tokens; -1: one from before the batch, or none.
  __device__ int32_t Entrant(int32_t slot) const { return entrant_[slot]; }
  __device__ int64_t Position(int32_t slot) const {
    return entrant_[slot] < 0 ? position_[slot] : leave_begin_ + entrant_[slot];
  }

 private:
  int64_t* key_;
  int32_t* entrant_;
  const int64_t* position_;
  int64_t leave_begin_;
};

// The same for capacities beyond shared memory: the state's own table, brought up to date at once.
class StateTable {
 public:
  static constexpr int64_t kBytesOfSlot = 0;

  __device__ StateTable(const ReplaceEntriesArgs& a, const StreamChunk& c, std::byte* /*memory*/)
      : priority_(InState<double>(c, a.priority_offset)),
        position_(InState<int64_t>(c, a.position_offset)),
        leave_begin_(c.leave_begin) {}

  __device__ void Take(int32_t /*slot*/, double /*priority*/) {}
  __device__ void Put(int32_t slot, int32_t entrant, int64_t key) {
    priority_[slot] = PriorityOf(key);
    position_[slot] = leave_begin_ + entrant;
  }
  __device__ int64_t Key(int32_t slot) const { return KeyOf(priority_[slot]); }
  // What was in the buffer before has left the window before.
  __device__ int32_t Entrant(int32_t slot) const {
    const int64_t position = position_[slot];
    return position < leave_begin_ ? -1 : static_cast<int32_t>(position - leave_begin_);
  }
  __device__ int64_t Position(int32_t slot) const { return position_[slot]; }

 private:
  double* priority_;
  int64_t* position_;
  int64_t leave_begin_;
};

struct Occupant {
  int64_t key;
  int32_t slot;
};

// Who falls out before the other: of equals, the newer.
template <typename Table>
__device__ Occupant FirstOut(const Table& table, Occupant a, Occupant b) {
  if (a.key != b.key) return a.key < b.key ? a : b;
  if (a.key == kNobody) return a;
  return table.Position(a.slot) > table.Position(b.slot) ? a : b;
}

// The same of a warp's 32 occupants, one of them at least not kNobody; all lanes get the answer.
template <typename Table>
__device__ Occupant FirstOut(const Table& table, Occupant mine) {
  const auto high = static_cast<int32_t>(mine.key >> 32);
  const auto low = static_cast<uint32_t>(mine.key);
  const int32_t least_high = __reduce_min_sync(kAllLanes, high);
  const uint32_t least_low = __reduce_min_sync(kAllLanes, high == least_high ? low : ~0u);
  const bool ties = high == least_high && low == least_low;
  unsigned first = __ballot_sync(kAllLanes, ties);
  if (__popc(first) > 1) {
    const int64_t position = ties ? table.Position(mine.slot) : -1;
    const auto position_high = static_cast<int32_t>(position >> 32);
    const auto position_low = static_cast<uint32_t>(position);
    const int32_t most_high = __reduce_max_sync(kAllLanes, position_high);
    const uint32_t most_low =
        __reduce_max_sync(kAllLanes, position_high == most_high ? position_low : 0u);
    first =
        __ballot_sync(kAllLanes, ties && position_high == most_high && position_low == most_low);
  }
  const int32_t slot = __shfl_sync(kAllLanes, mine.slot, __ffs(static_cast<int>(first)) - 1);
  return {.key = static_cast<int64_t>(
              (static_cast<uint64_t>(static_cast<uint32_t>(least_high)) << 32) | least_low),
          .slot = slot};
}

// One chunk's arrays and the order in which its tokens enter.
struct ChunkRows {
  __device__ ChunkRows(const ReplaceEntriesArgs& a_in, const StreamChunk& c_in)
      : a(a_in),
        c(c_in),
        segments(a.batch.segments + c.first_segment),
        capacity(a.shape.capacity),
        num_leaving(static_cast<int32_t>(NumLeaving(c))),
        born(a.born + c.first_entry),
        died(a.died + c.first_entry) {}

  // How many of the leaving tokens have left when segment j begins, or more.
  __device__ int64_t Left(int32_t j) const {
    return segments[j].start - a.shape.window_rows - c.leave_begin;
  }

  // The segment that begins as the i-th leaving token enters: the first that has it behind its
  // window. Only for tokens that the last segment has there.
  __device__ int32_t SegmentOf(int32_t i) const {
    int32_t low = segments[0].begins != 0 ? 0 : 1, high = c.num_segments - 1;
    while (low < high) {
      const int32_t middle = (low + high) / 2;
      if (Left(middle) > i) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  __device__ void Enter(int32_t i, int32_t segment) const {
    born[capacity + i] = segment;
    died[capacity + i] = INT32_MAX;
  }

  const ReplaceEntriesArgs& a;
  const StreamChunk& c;
  const StreamSegment* segments;
  int32_t capacity;
  int32_t num_leaving;
  int32_t* born;
  int32_t* died;
};

// The entry rows as they stand before the first segment. Whether this thread met an empty slot.
template <typename Table>
__device__ bool FillRows(const ChunkRows& rows, Table& table) {
  const ReplaceEntriesArgs& a = rows.a;
  const StreamChunk& c = rows.c;
  const auto* state_position = InState<const int64_t>(c, a.position_offset);
  const auto* state_priority = InState<const double>(c, a.priority_offset);
  const auto* state_log_gate = InState<const float>(c, a.log_gate_offset);
  const auto* state_token = InState<const int32_t>(c, a.token_offset);
  int64_t* row_position = a.row_position + c.first_entry;
  float* row_log_gate = a.row_log_gate + c.first_entry;
  int32_t* row_token = a.row_token + c.first_entry;
  bool met_empty = false;
  for (int32_t slot = static_cast<int32_t>(threadIdx.x); slot < rows.capacity; slot += kThreads) {
    const int64_t position = state_position[slot];
    const bool occupied = position >= 0;
    table.Take(slot, state_priority[slot]);
    rows.born[slot] = 0;
    rows.died[slot] = occupied ? INT32_MAX : 0;
    row_position[slot] = occupied ? position : -1;
    row_log_gate[slot] = state_log_gate[slot];
    row_token[slot] = state_token[slot];
    met_empty |= !occupied;
  }
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < rows.num_leaving; i += kThreads) {
    const int64_t staged = int64_t{c.first_staged} + i;
    rows.born[rows.capacity + i] = 0;
    rows.died[rows.capacity + i] = 0;
    row_position[rows.capacity + i] = c.leave_begin + i;
    row_log_gate[rows.capacity + i] = a.staged_log_gate[staged];
    row_token[rows.capacity + i] = a.staged_token[staged];
    a.slot[staged] = -1;
  }
  return met_empty;
}

// Entrants begin..end take the empty slots, from the lowest, as long as there are any: nobody falls
// out meanwhile, so all may do it at once. Returns the number of slots that were empty.
template <typename Table>
__device__ int32_t FillEmpty(const ChunkRows& rows, Table& table, int32_t begin, int32_t end) {
  __shared__ int32_t empty_of_warp[kThreads / 32];
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int64_t* row_position = rows.a.row_position + rows.c.first_entry;
  int32_t num_empty = 0;
  for (int32_t base = 0; base < rows.capacity; base += kThreads) {
    const int32_t slot = base + thread;
    const bool empty = slot < rows.capacity && row_position[slot] < 0;
    const unsigned mask = __ballot_sync(kAllLanes, empty);
    if (thread % 32 == 0) empty_of_warp[thread / 32] = __popc(mask);
    __syncthreads();
    int32_t rank = num_empty + __popc(mask & ((1u << (thread % 32)) - 1));
    for (int32_t warp = 0; warp < kThreads / 32; ++warp) {
      if (warp < thread / 32) rank += empty_of_warp[warp];
      num_empty += empty_of_warp[warp];
    }
    __syncthreads();
    if (!empty || rank >= end - begin) continue;
    const int32_t i = begin + rank;
    rows.Enter(i, rows.SegmentOf(i));
    table.Put(slot, i, KeyOf(rows.a.staged_priority[rows.c.first_staged + i]));
  }
  return num_empty;
}

// Brings entrants begin.. to shared memory; the work of `num_threads` of the block's threads.
__device__ void LoadTile(const ChunkRows& rows, int32_t begin, int32_t count, int32_t thread,
                         int32_t num_threads, Tile& tile) {
  for (int32_t n = thread; n < count; n += num_threads) {
    tile.key[n] = KeyOf(rows.a.staged_priority[rows.c.first_staged + begin + n]);
    tile.segment[n] = rows.SegmentOf(begin + n);
  }
}

// One warp's walk over the entrants of a full buffer. A tree finds who falls out first: the first
// of each group and its key lie in shared memory, those of the supergroups in the lanes.
template <typename Table>
class Walk {
 public:
  __device__ Walk(const ChunkRows& rows, Table& table, int64_t* group_key, int32_t* group_slot)
      : rows_(rows),
        table_(table),
        group_key_(group_key),
        group_slot_(group_slot),
        num_groups_((rows.capacity + kGroup - 1) / kGroup),
        lane_(static_cast<int32_t>(threadIdx.x % 32)) {}

  // The groups' firsts: the work of all warps.
  __device__ void InitGroups() {
    for (int32_t group = static_cast<int32_t>(threadIdx.x / 32); group < num_groups_;
         group += kThreads / 32) {
      KeepGroup(group, FirstOfGroup(group));
    }
  }

  // The rest: the walking warp's.
  __device__ void Init() {
    for (int32_t super = 0; super * kGroup < num_groups_; ++super) {
      KeepSuper(super, FirstOut(table_, Group(super * kGroup + lane_)));
    }
    first_ = FirstOfAll();
  }

  // Entrants begin.. enter, which lie in the tile.
  __device__ void Run(const Tile& tile, int32_t begin, int32_t count) {
    for (int32_t base = 0; base < count; base += 32) {
      const int64_t key = base + lane_ < count ? tile.key[base + lane_] : INT64_MIN;
      // An entrant is newer than all: equal is not enough. Each that enters raises the bar.
      unsigned better = __ballot_sync(kAllLanes, key > first_.key);
      while (better != 0) {
        const int32_t from = __ffs(static_cast<int>(better)) - 1;
        Replace(begin + base + from, tile.segment[base + from], __shfl_sync(kAllLanes, key, from));
        better = __ballot_sync(kAllLanes, lane_ > from && key > first_.key);
      }
    }
  }

  __device__ int32_t num_replaced() const { return num_replaced_; }

 private:
  __device__ void Replace(int32_t entrant, int32_t segment, int64_t key) {
    const int32_t slot = first_.slot;
    __syncwarp();  // every lane has read what changes now
    if (lane_ == 0) {
      const int32_t old = table_.Entrant(slot);
      rows_.died[old < 0 ? slot : rows_.capacity + old] = segment;
      rows_.Enter(entrant, segment);
      table_.Put(slot, entrant, key);
    }
    __syncwarp();
    const int32_t group = slot / kGroup;
    const Occupant first_of_group = FirstOfGroup(group);
    const int32_t super = group / kGroup;
    const int32_t mine = super * kGroup + lane_;
    const Occupant first_of_super = FirstOut(table_, mine == group ? first_of_group : Group(mine));
    KeepGroup(group, first_of_group);
    KeepSuper(super, first_of_super);
    first_ = num_groups_ <= kGroup ? first_of_super : FirstOfAll();
    ++num_replaced_;
  }

  __device__ Occupant FirstOfGroup(int32_t group) const {
    const int32_t slot = group * kGroup + lane_;
    const bool exists = slot < rows_.capacity;
    return FirstOut(table_, Occupant{exists ? table_.Key(slot) : kNobody, slot});
  }
  __device__ Occupant FirstOfAll() const { return FirstOut(table_, FirstOut(table_, low_, high_)); }

  __device__ Occupant Group(int32_t group) const {
    if (group >= num_groups_) return {kNobody, -1};
    return {group_key_[group], group_slot_[group]};
  }
  __device__ void KeepGroup(int32_t group, Occupant first) {
    if (lane_ == 0) {
      group_key_[group] = first.key;
      group_slot_[group] = first.slot;
    }
    __syncwarp();
  }
  __device__ void KeepSuper(int32_t super, Occupant first) {
    if (super % kGroup == lane_) (super < kGroup ? low_ : high_) = first;
  }

  const ChunkRows& rows_;
  Table& table_;
  int64_t* group_key_;
  int32_t* group_slot_;
  const int32_t num_groups_;
  const int32_t lane_;
  Occupant low_{kNobody, -1};   // of supergroup `lane_`
  Occupant high_{kNobody, -1};  // of supergroup `lane_` + 32
  Occupant first_{kNobody, -1};
  int32_t num_replaced_ = 0;
};

// The staged tokens that lived through the batch take their slots.
template <typename Table>
__device__ void Settle(const ChunkRows& rows, const Table& table) {
  const ReplaceEntriesArgs& a = rows.a;
  const StreamChunk& c = rows.c;
  for (int32_t slot = static_cast<int32_t>(threadIdx.x); slot < rows.capacity; slot += kThreads) {
    const int32_t i = table.Entrant(slot);
    if (i < 0) continue;
    const int64_t staged = int64_t{c.first_staged} + i;
    const double priority = a.staged_priority[staged];
    InState<int64_t>(c, a.position_offset)[slot] = c.leave_begin + i;
    InState<double>(c, a.priority_offset)[slot] = isnan(priority) ? -INFINITY : priority;
    InState<float>(c, a.log_gate_offset)[slot] = a.staged_log_gate[staged];
    InState<int32_t>(c, a.token_offset)[slot] = a.staged_token[staged];
    a.slot[staged] = slot;
  }
}

int64_t SharedBytes(int32_t capacity, int64_t bytes_of_slot) {
  const int64_t num_groups = (capacity + kGroup - 1) / kGroup;
  return 2 * sizeof(Tile) + num_groups * (sizeof(int64_t) + sizeof(int32_t)) +
         capacity * bytes_of_slot;
}

// Grid: num_chunks. Block: kThreads. Traffic: the table of entries once in and out as entry rows;
// the walk touches shared memory alone, but for what it writes of those that enter and fall out.
// The first warp walks while the others fetch the entrants after next.
template <typename Table>
__global__ void __launch_bounds__(kThreads) ReplaceEntriesKernel(ReplaceEntriesArgs a) {
  extern __shared__ __align__(16) std::byte memory[];
  const StreamChunk c = a.batch.chunks[blockIdx.x];
  if (IsPadding(c)) return;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  if (!HasBeginning(a.batch, c)) {
    if (thread == 0) a.num_replaced[blockIdx.x] = 0;
    return;
  }
  const ChunkRows rows(a, c);
  const int32_t num_groups = (rows.capacity + kGroup - 1) / kGroup;
  auto* tiles = reinterpret_cast<Tile*>(memory);
  // 8-byte parts first, so that all are aligned.
  auto* group_key = reinterpret_cast<int64_t*>(memory + 2 * sizeof(Tile));
  std::byte* table_memory = reinterpret_cast<std::byte*>(group_key + num_groups);
  auto* group_slot = reinterpret_cast<int32_t*>(table_memory + rows.capacity * Table::kBytesOfSlot);
  Table table(a, c, table_memory);

  // Entrants first..end: no sinks, and nobody whom the last segment still has in its window.
  const int64_t left = min(rows.Left(c.num_segments - 1), int64_t{rows.num_leaving});
  const auto end = static_cast<int32_t>(max(left, int64_t{0}));
  const auto first =
      static_cast<int32_t>(min(max(a.shape.sink_rows - c.leave_begin, int64_t{0}), int64_t{end}));

  const bool any_empty = __syncthreads_or(FillRows(rows, table) ? 1 : 0) != 0;
  const int32_t num_empty = any_empty ? FillEmpty(rows, table, first, end) : 0;
  Walk<Table> walk(rows, table, group_key, group_slot);
  __syncthreads();
  if (end - first > num_empty && rows.capacity > 0) {
    int32_t begin = first + num_empty;
    LoadTile(rows, begin, min(kTile, end - begin), thread, kThreads, tiles[0]);
    walk.InitGroups();
    __syncthreads();
    if (thread < 32) walk.Init();
    for (int32_t turn = 0; begin < end; begin += kTile, ++turn) {
      if (thread < 32) {
        walk.Run(tiles[turn % 2], begin, min(kTile, end - begin));
      } else if (end - begin > kTile) {
        const int32_t next = begin + kTile;
        LoadTile(rows, next, min(kTile, end - next), thread - 32, kThreads - 32,
                 tiles[(turn + 1) % 2]);
      }
      __syncthreads();
    }
  }
  if (thread == 0) a.num_replaced[blockIdx.x] = walk.num_replaced();
  Settle(rows, table);
}

template <typename Table>
absl::Status Launch(const ReplaceEntriesArgs& a, Stream stream) {
  const auto bytes = static_cast<int>(SharedBytes(a.shape.capacity, Table::kBytesOfSlot));
  RASQ_RETURN_IF_ERROR(AllowShared(ReplaceEntriesKernel<Table>, bytes));
  ReplaceEntriesKernel<Table>
      <<<static_cast<unsigned>(a.batch.num_chunks), kThreads, bytes, stream>>>(a);
  return LaunchStatus("ReplaceEntries");
}

}  // namespace

absl::Status ReplaceEntriesCuda(const ReplaceEntriesArgs& a, Stream stream) {
  RASQ_RETURN_IF_ERROR(ValidateReplaceEntries(a));
  RASQ_RETURN_IF_ERROR(
      CheckRange("ReplaceEntries", "capacity", a.shape.capacity, 0, kMostCapacity));
  if (a.batch.num_chunks == 0) return absl::OkStatus();
  // What a block may have on compute capability 9.0, less the kernel's fixed part.
  constexpr int64_t kMostShared = 226 * 1024;
  return SharedBytes(a.shape.capacity, SharedTable::kBytesOfSlot) <= kMostShared
             ? Launch<SharedTable>(a, stream)
             : Launch<StateTable>(a, stream);
}

}  // namespace rasq
