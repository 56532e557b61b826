#include "kernels/attend_tile_cpu.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/attend_few_cpu.h"
#include "kernels/elements_cpu.h"
#include "kernels/entry_clusters_cpu.h"
#include "kernels/entry_rows_cpu.h"
#include "kernels/fused_blocks_cpu.h"
#include "kernels/matrix_product_cpu.h"
#include "kernels/stream_batch_cpu.h"
#include "kernels/vector_loops_cpu.h"

namespace rasq {
namespace {

// Rows and keys are padded to these, and keys are taken in blocks, so that the shapes of products
// are few.
constexpr int64_t kRowPad = 16;
constexpr int64_t kKeyPad = ChunkKeys::kPadRows;
constexpr int64_t kSinkPad = 16;
constexpr int64_t kBlockKeys = 512;

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Some keys of the tile's softmax, with the matrices of their logits and weights, [rows, columns]
// each, `offset` elements into the scratch: products are of dense matrices.
struct Part {
  enum Kind { kWindow, kSinks, kEntries } kind;
  int64_t first;    // key of its kind
  int64_t columns;  // padded
  int64_t offset;
};

struct Scratch {
  std::vector<std::byte> q;               // [rows, head_dim], as all below in the type of products
  std::vector<std::byte> turned_q;        // [rows, head_dim]: in the memory's frame
  std::vector<std::byte> memory_q;        // [rows, compressed_dim]
  std::vector<std::byte> up;              // [head_dim, compressed_dim]
  std::vector<std::byte> sink_k, sink_v;  // [padded sinks, head_dim]
  std::vector<std::byte> entry_k, entry_v;  // [padded entries, then centroids, compressed_dim]
  std::vector<std::byte> weights;           // of the parts
  std::vector<float> logits;                // of the parts
  std::vector<Part> parts;
  std::vector<float> bias;       // [entries]; with clusters of all columns, padding's -infinity
  std::vector<float> read_bias;  // the same of one row: -infinity for what it does not read
  std::vector<float> sums;       // [rows]
  std::vector<float> out;        // [rows, head_dim]
  std::vector<float> narrow;     // [rows, compressed_dim]
  std::vector<float> head;       // [head_dim]
};

class Tile {
 public:
  Tile(const StreamAttentionArgs& a, int64_t segment, int64_t kv_head, const ChunkKeys& keys,
       Scratch& scratch)
      : a_(a),
        keys_(keys),
        s_(scratch),
        index_(segment),
        kv_head_(kv_head),
        segment_(a.batch.segments[segment]),
        chunk_(a.batch.chunks[segment_.chunk]),
        type_(ProductType(a.element)),
        dim_(a.head_dim),
        group_(a.num_heads / a.num_kv_heads),
        head_rows_(RoundUp(segment_.num_rows, kRowPad)),
        rows_(group_ * head_rows_),
        first_position_(FirstPosition(chunk_, segment_)),
        begin_(std::max<int64_t>(0, segment_.start - a.shape.window_rows)),
        num_sinks_(std::clamp<int64_t>(segment_.start - a.shape.window_rows, 0, a.shape.sink_rows)),
        num_entries_(a.reads_memory ? a.selected.count[ListOf(a, segment, kv_head)] : 0),
        exact_entries_(HasExactEntries(a)),
        sink_columns_(RoundUp(num_sinks_, kSinkPad)),
        num_clusters_(IsClustered(a, segment) ? a.clusters.num_clusters : 0),
        centroid_column_(RoundUp(num_entries_, kKeyPad)),
        entry_columns_(centroid_column_ + RoundUp(num_clusters_, kKeyPad)) {
    if (num_clusters_ > 0) {
      clusters_ = ClustersOf(a.clusters, a.batch, a.num_kv_heads, segment, kv_head);
    }
  }

  void Run() {
    s_.parts.clear();
    int64_t size = 0;
    size = AddParts(Part::kWindow, RoundUp(first_position_ + segment_.num_rows - begin_, kKeyPad),
                    size);
    size = AddParts(Part::kSinks, sink_columns_, size);
    size = AddParts(Part::kEntries, entry_columns_, size);
    if (s_.logits.size() < static_cast<size_t>(size)) {
      s_.logits.resize(size);
      s_.weights.resize(size * sizeof(float));
    }
    s_.head.resize(dim_);
    GatherQueries();
    GatherSinks();
    GatherEntries();
    Score();
    Softmax();
    SumValues();
    Store();
  }

 private:
  // The row of a head of the group and a row of the segment's part, in all [rows, ...] arrays.
  int64_t TileRow(int64_t head, int64_t row) const { return head * head_rows_ + row; }
  int64_t OutElement(int64_t head, int64_t row) const {
    return ((segment_.first_row + row) * a_.num_heads + kv_head_ * group_ + head) * dim_;
  }

  // Returns the elements of all parts so far.
  int64_t AddParts(Part::Kind kind, int64_t num_columns, int64_t offset) {
    for (int64_t first = 0; first < num_columns; first += kBlockKeys) {
      const int64_t columns = std::min(kBlockKeys, num_columns - first);
      s_.parts.push_back({kind, first, columns, offset});
      offset += rows_ * columns;
    }
    return offset;
  }

  // Padding rows are zero.
  void GatherQueries() {
    const int64_t bytes = dim_ * SizeOf(type_);
    s_.q.assign(rows_ * bytes, std::byte{0});
    const auto* q = static_cast<const std::byte*>(a_.q);
    for (int64_t head = 0; head < group_; ++head) {
      for (int64_t row = 0; row < segment_.num_rows; ++row) {
        const std::byte* from = q + OutElement(head, row) * SizeOf(a_.element);
        ConvertElements(a_.element, from, type_, &s_.q[TileRow(head, row) * bytes], dim_);
      }
    }
    if (num_entries_ == 0 || a_.memory_rotation == nullptr) return;
    s_.turned_q.resize(rows_ * bytes);
    const float* rotation = a_.memory_rotation + index_ * dim_;
    for (int64_t row = 0; row < rows_; ++row) {
      LoadElements(type_, &s_.q[row * bytes], s_.head.data(), dim_);
      RotateBack(s_.head.data(), rotation, s_.head.data(), dim_);
      StoreElements(type_, s_.head.data(), &s_.turned_q[row * bytes], dim_);
    }
  }

  void GatherSinks() {
    const int64_t bytes = dim_ * SizeOf(type_);
    s_.sink_k.assign(sink_columns_ * bytes, std::byte{0});
    s_.sink_v.assign(sink_columns_ * bytes, std::byte{0});
    for (int64_t j = 0; j < num_sinks_; ++j) {
      const int64_t from = (j * a_.num_kv_heads + kv_head_) * dim_ * SizeOf(a_.element);
      const float* rotation = a_.sink_rotation + (index_ * a_.shape.sink_rows + j) * dim_;
      LoadElements(a_.element, chunk_.state + a_.sink_k_offset + from, s_.head.data(), dim_);
      Rotate(s_.head.data(), rotation, s_.head.data(), dim_);
      StoreElements(type_, s_.head.data(), &s_.sink_k[j * bytes], dim_);
      ConvertElements(a_.element, chunk_.state + a_.sink_v_offset + from, type_,
                      &s_.sink_v[j * bytes], dim_);
    }
  }

  void GatherEntries() {
    if (num_entries_ == 0) return;
    const int64_t width = a_.compressed_dim;
    const int64_t bytes = width * SizeOf(type_);
    s_.entry_k.assign(entry_columns_ * bytes, std::byte{0});
    s_.entry_v.assign(entry_columns_ * bytes, std::byte{0});
    for (int64_t j = 0; j < num_entries_; ++j) {
      LoadEntry(a_, index_, kv_head_, j, /*key=*/true, type_, &s_.entry_k[j * bytes]);
      LoadEntry(a_, index_, kv_head_, j, /*key=*/false, type_, &s_.entry_v[j * bytes]);
    }
    if (num_clusters_ == 0) return;
    ConvertElements(a_.element, clusters_.k, type_, &s_.entry_k[centroid_column_ * bytes],
                    num_clusters_ * width);
    ConvertElements(a_.element, clusters_.v, type_, &s_.entry_v[centroid_column_ * bytes],
                    num_clusters_ * width);
  }

  // Where a part's keys or values begin, and how wide they are.
  const std::byte* Rows(const Part& part, bool key) const {
    const int64_t offset = part.first * WidthOf(part) * SizeOf(type_);
    switch (part.kind) {
      case Part::kSinks:
        return (key ? s_.sink_k : s_.sink_v).data() + offset;
      case Part::kEntries:
        return (key ? s_.entry_k : s_.entry_v).data() + offset;
      case Part::kWindow:
        break;
    }
    return offset + (key ? keys_.Keys(segment_.chunk, kv_head_, begin_)
                         : keys_.Values(segment_.chunk, kv_head_, begin_));
  }
  int64_t WidthOf(const Part& part) const {
    return part.kind == Part::kEntries ? a_.compressed_dim : dim_;
  }

  void Score() {
    if (num_entries_ > 0 && !exact_entries_) MoveQueries();
    const std::byte* memory_q = (exact_entries_ ? TurnedQueries() : s_.memory_q).data();
    for (const Part& part : s_.parts) {
      const ProductShape shape{.type = type_,
                               .rows = rows_,
                               .columns = part.columns,
                               .inner = WidthOf(part),
                               .layout = WeightLayout::kOuterInner};
      const std::byte* x = part.kind == Part::kEntries ? memory_q : s_.q.data();
      RunProduct(shape, x, Rows(part, /*key=*/true), s_.logits.data() + part.offset);
    }
  }

  // This kv head's P^+ in the type of products.
  void LoadUp(const void* up) {
    const int64_t size = dim_ * a_.compressed_dim;
    s_.up.resize(size * SizeOf(type_));
    const auto* from = static_cast<const std::byte*>(up) + kv_head_ * size * SizeOf(a_.element);
    ConvertElements(a_.element, from, type_, s_.up.data(), size);
  }

  const std::vector<std::byte>& TurnedQueries() const {
    return a_.memory_rotation == nullptr ? s_.q : s_.turned_q;
  }

  // q~ = P_k^+^T q', moved once so that entries are read in their own width.
  void MoveQueries() {
    const int64_t width = a_.compressed_dim;
    LoadUp(a_.key_up);
    s_.narrow.resize(rows_ * width);
    const ProductShape shape{.type = type_,
                             .rows = rows_,
                             .columns = width,
                             .inner = dim_,
                             .layout = WeightLayout::kInnerOuter};
    RunProduct(shape, TurnedQueries().data(), s_.up.data(), s_.narrow.data());
    s_.memory_q.resize(rows_ * width * SizeOf(type_));
    StoreElements(type_, s_.narrow.data(), s_.memory_q.data(), rows_ * width);
  }

  // Logits to weights, not yet divided by their sum.
  void Softmax() {
    s_.sums.assign(rows_, 1.0f);
    s_.bias.assign(entry_columns_, -std::numeric_limits<float>::infinity());
    for (int64_t head = 0; head < group_; ++head) {
      if (num_entries_ > 0) EntryBias(a_, index_, kv_head_ * group_ + head, s_.bias.data());
      if (num_clusters_ > 0) {
        ClusterBias(a_, clusters_, kv_head_ * group_ + head, &s_.bias[centroid_column_]);
      }
      for (int64_t row = 0; row < head_rows_; ++row) {
        if (num_clusters_ > 0 && row < segment_.num_rows) ChooseClusters(TileRow(head, row));
        if (type_ == DType::kBfloat16) {
          SoftmaxRow<bfloat16>(TileRow(head, row), row);
        } else {
          SoftmaxRow<float>(TileRow(head, row), row);
        }
      }
    }
  }

  // How many of a part's keys a row sees; the others weigh nothing.
  int64_t NumSeen(const Part& part, int64_t row) const {
    int64_t seen = 0;
    switch (part.kind) {
      case Part::kWindow:
        seen = first_position_ + row + 1 - begin_;
        break;
      case Part::kSinks:
        seen = num_sinks_;
        break;
      case Part::kEntries:
        seen = num_clusters_ > 0 ? entry_columns_ : num_entries_;
        break;
    }
    return row < segment_.num_rows ? std::clamp<int64_t>(seen - part.first, 0, part.columns) : 0;
  }

  // A row's bias: as its head's, but for the entries of clusters that the row does not read, and
  // for the centroids of those that it reads.
  void ChooseClusters(int64_t tile_row) {
    constexpr float kUnread = -std::numeric_limits<float>::infinity();
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim_));
    // Blocks of columns are multiples of kKeyPad: the centroids lie in one.
    const Part& part = *std::find_if(s_.parts.begin(), s_.parts.end(), [this](const Part& p) {
      return p.kind == Part::kEntries && p.first + p.columns > centroid_column_;
    });
    const float* products =
        s_.logits.data() + part.offset + tile_row * part.columns + centroid_column_ - part.first;
    float logits[kMaxClusters];
    Scale(products, scale, logits, num_clusters_);
    const auto num_clusters = static_cast<int32_t>(num_clusters_);
    const uint64_t read = PickClusters(clusters_, num_clusters, a_.clusters.read_clusters, logits);
    s_.read_bias = s_.bias;
    for (int64_t j = 0; j < num_entries_; ++j) {
      if (!IsRead(read, clusters_.cluster[j])) s_.read_bias[j] = kUnread;
    }
    for (int64_t c = 0; c < num_clusters_; ++c) {
      // Their logits are what the product gives and log n.
      float& bias = s_.read_bias[centroid_column_ + c];
      bias = IsRead(read, c) || clusters_.count[c] == 0
                 ? kUnread
                 : bias + std::log(static_cast<float>(clusters_.count[c]));
    }
  }

  template <typename T>
  void SoftmaxRow(int64_t tile_row, int64_t row) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim_));
    const std::vector<float>& bias = num_clusters_ > 0 ? s_.read_bias : s_.bias;
    const auto bias_of = [&bias](const Part& part) {
      return part.kind == Part::kEntries ? bias.data() + part.first : nullptr;
    };
    LogSum memory;  // of fused blocks, whose logits become weights within the memory
    const auto is_fused = [this](const Part& part) {
      return part.kind == Part::kEntries && a_.fused_weight != nullptr;
    };
    LogSum all;
    for (const Part& part : s_.parts) {
      float* logits = s_.logits.data() + part.offset + tile_row * part.columns;
      const int64_t seen = NumSeen(part, row);
      if (is_fused(part)) {
        const float* weight = FusedWeights() + part.first / kFusedRows;
        memory.Add(FuseBlocks(logits, scale, bias_of(part), weight, seen));
        all.most = std::max(all.most, memory.most);
      } else {
        all.most = std::max(all.most, MaxLogit(logits, scale, bias_of(part), seen));
      }
    }
    const float share = memory.sum > 0 ? memory.RelativeTo(all.most) : 0;
    all.sum = share;
    for (const Part& part : s_.parts) {
      const int64_t at = part.offset + tile_row * part.columns;
      const int64_t seen = NumSeen(part, row);
      T* weights = reinterpret_cast<T*>(s_.weights.data()) + at;
      if (is_fused(part)) {
        Scale(s_.logits.data() + at, share, weights, seen);
      } else {
        all.sum += ExpLogits(s_.logits.data() + at, scale, bias_of(part), all.most, weights, seen);
      }
      std::memset(weights + seen, 0, (part.columns - seen) * sizeof(T));
    }
    if (row >= segment_.num_rows) return;
    s_.sums[tile_row] = all.sum;
    if (a_.lse != nullptr) a_.lse[OutElement(tile_row / head_rows_, row) / dim_] = all.Log();
  }

  const float* FusedWeights() const {
    return a_.fused_weight + ListOf(a_, index_, kv_head_) * NumFusedBlocks(a_.shape.max_selected);
  }

  void SumValues() {
    s_.out.resize(rows_ * dim_);
    for (const Part& part : s_.parts) {
      const bool entries = part.kind == Part::kEntries && !exact_entries_;
      const ProductShape shape{.type = type_,
                               .rows = rows_,
                               .columns = WidthOf(part),
                               .inner = part.columns,
                               .layout = WeightLayout::kInnerOuter,
                               .accumulate = entries ? part.first > 0 : part.offset > 0};
      RunProduct(shape, s_.weights.data() + part.offset * SizeOf(type_), Rows(part, /*key=*/false),
                 entries ? s_.narrow.data() : s_.out.data());
    }
    if (num_entries_ == 0 || exact_entries_) return;
    // out += P_v^+ of the summed entries.
    const int64_t width = a_.compressed_dim;
    StoreElements(type_, s_.narrow.data(), s_.memory_q.data(), rows_ * width);
    LoadUp(a_.value_up);
    const ProductShape shape{.type = type_,
                             .rows = rows_,
                             .columns = dim_,
                             .inner = width,
                             .layout = WeightLayout::kOuterInner,
                             .accumulate = true};
    RunProduct(shape, s_.memory_q.data(), s_.up.data(), s_.out.data());
  }

  void Store() {
    for (int64_t head = 0; head < group_; ++head) {
      for (int64_t row = 0; row < segment_.num_rows; ++row) {
        const int64_t tile_row = TileRow(head, row);
        const float* from = s_.out.data() + tile_row * dim_;
        const float scale = 1.0f / s_.sums[tile_row];
        const int64_t to = OutElement(head, row);
        if (a_.element == DType::kBfloat16) {
          Scale(from, scale, static_cast<bfloat16*>(a_.out) + to, dim_);
        } else {
          Scale(from, scale, static_cast<float*>(a_.out) + to, dim_);
        }
      }
    }
  }

  const StreamAttentionArgs& a_;
  const ChunkKeys& keys_;
  Scratch& s_;
  const int64_t index_;
  const int64_t kv_head_;
  const StreamSegment& segment_;
  const StreamChunk& chunk_;
  const DType type_;
  const int64_t dim_;
  const int64_t group_;
  const int64_t head_rows_;
  const int64_t rows_;
  const int64_t first_position_;
  const int64_t begin_;  // first position of the window
  const int64_t num_sinks_;
  const int64_t num_entries_;
  const bool exact_entries_;
  const int64_t sink_columns_;
  const int64_t num_clusters_;     // 0: entries are read without clusters
  const int64_t centroid_column_;  // of the first, behind the entries
  const int64_t entry_columns_;    // with the centroids'
  ClusterView clusters_;
};

}  // namespace

void ChunkKeys::Gather(const StreamAttentionArgs& a, ThreadPool& pool) {
  const DType type = ProductType(a.element);
  const int64_t dim = a.head_dim;
  row_bytes_ = dim * SizeOf(type);
  places_.assign(a.batch.num_chunks, Place());
  int64_t num_rows = 0;
  for (int32_t i = 0; i < a.batch.num_chunks; ++i) {
    const StreamChunk& c = a.batch.chunks[i];
    const StreamSegment* segment = a.batch.segments + c.first_segment;
    const bool any = std::any_of(segment, segment + c.num_segments,
                                 [](const StreamSegment& s) { return s.num_rows > kFewRows; });
    if (!any) continue;
    const int64_t begin = std::max<int64_t>(0, segment->start - a.shape.window_rows);
    places_[i] = {begin, c.first_position + c.num_rows - begin, num_rows};
    num_rows += a.num_kv_heads * (places_[i].num_rows + kPadRows);
  }
  if (num_rows == 0) return;
  if (keys_.size() < static_cast<size_t>(num_rows * row_bytes_)) {
    keys_.resize(num_rows * row_bytes_);
    values_.resize(num_rows * row_bytes_);
  }
  // One task a chunk, kv head, and keys or values.
  pool.ParallelFor(2L * a.batch.num_chunks * a.num_kv_heads, [&](int64_t task, int /*thread*/) {
    const bool is_key = task % 2 == 0;
    const int64_t kv_head = task / 2 % a.num_kv_heads;
    const int64_t chunk = task / 2 / a.num_kv_heads;
    const Place& place = places_[chunk];
    if (place.num_rows == 0) return;
    const StreamChunk& c = a.batch.chunks[chunk];
    const std::byte* ring = c.state + (is_key ? a.ring_k_offset : a.ring_v_offset);
    const auto* own = static_cast<const std::byte*>(is_key ? a.k : a.v);
    std::byte* to =
        (is_key ? keys_ : values_).data() + RowOf(chunk, kv_head, place.begin) * row_bytes_;
    ForTokenSpans(c, place.begin, place.begin + place.num_rows, a.shape.ring_rows,
                  [&](const TokenSpan& span) {
                    const std::byte* rows = span.in_ring ? ring : own;
                    for (int64_t i = 0; i < span.num_rows; ++i) {
                      const int64_t element = ((span.row + i) * a.num_kv_heads + kv_head) * dim;
                      ConvertElements(a.element, rows + element * SizeOf(a.element), type,
                                      to + (span.offset + i) * row_bytes_, dim);
                    }
                  });
    std::memset(to + place.num_rows * row_bytes_, 0, kPadRows * row_bytes_);
  });
}

int64_t ChunkKeys::RowOf(int64_t chunk, int64_t kv_head, int64_t position) const {
  const Place& place = places_[chunk];
  return place.first_row + kv_head * (place.num_rows + kPadRows) + position - place.begin;
}

const std::byte* ChunkKeys::Keys(int64_t chunk, int64_t kv_head, int64_t position) const {
  return keys_.data() + RowOf(chunk, kv_head, position) * row_bytes_;
}

const std::byte* ChunkKeys::Values(int64_t chunk, int64_t kv_head, int64_t position) const {
  return values_.data() + RowOf(chunk, kv_head, position) * row_bytes_;
}

void AttendTile(const StreamAttentionArgs& a, int64_t segment, int64_t kv_head,
                const ChunkKeys& keys) {
  thread_local Scratch scratch;
  Tile(a, segment, kv_head, keys, scratch).Run();
}

}  // namespace rasq
