// Each operation of the GPU at a model's shape: its time, what it moves or computes, and its share
// of the ceiling that bounds it, both ceilings measured first in the same run.
//   gpu_kernels_bench [--model=models/llama-3.1-8b-shape] [--streams=256] [--rows=4096]
// `decode`: that many streams, a token each. `append`: that many rows in whole segments, of 8
// streams. Operations are recorded ten at a time and replayed, so that launches cost nothing;
// states of many streams exceed the caches.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/state_layout.h"
#include "engine/step_batch.h"
#include "kernels/ops.h"
#include "tests/bench/bench.h"
#include "tests/bench/gpu_timing.h"
#include "tests/support/model_harness.h"

namespace rasq {
namespace {

class Table {
 public:
  explicit Table(const Ceilings& ceilings) : ceilings_(ceilings) {
    std::printf("%-10s %-24s %10s %12s %8s\n", "step", "operation", "us", "rate", "ceiling");
  }
  void Bytes(const char* step, const char* name, double seconds, double bytes) const {
    std::printf("%-10s %-24s %10.1f %8.0f GB/s %7.0f%%\n", step, name, seconds * 1e6,
                bytes / seconds * 1e-9, 100 * bytes / seconds / ceilings_.bytes_per_second);
    std::fflush(stdout);
  }
  void Flops(const char* step, const char* name, double seconds, double flops) const {
    std::printf("%-10s %-24s %10.1f %6.0f TFLOP/s %7.0f%%\n", step, name, seconds * 1e6,
                flops / seconds * 1e-12, 100 * flops / seconds / ceilings_.flops_per_second);
    std::fflush(stdout);
  }

 private:
  const Ceilings ceilings_;
};

// With room for the clusters that a part of the measurements is of.
MemoryConfig WithClusters(MemoryConfig memory) {
  memory.num_clusters = 32;
  memory.read_clusters = 8;
  memory.cluster_min_entries = 0;
  return memory;
}

// Streams at a position far from their start, with full windows and buffers, and a batch of them.
class World {
 public:
  World(Ops& device, const Checkpoint& checkpoint, int32_t streams, int32_t rows_each, bool begins)
      : ops(device),
        model(checkpoint.model()),
        mem(WithClusters(checkpoint.memory())),
        layout(Must(MakeStateLayout(Strategy::kRasq, model, mem, ops.element(), {}))),
        memory(device) {
    const int64_t position = 128 << 10;
    std::vector<StreamCursor> cursors(
        streams, {.position = position, .segment_start = position - (begins ? mem.segment : 32)});
    std::vector<StreamStep> steps;
    // The last layer's share of the state is enough: operations see one layer at a time.
    for (int32_t i = 0; i < streams; ++i) {
      states.push_back(memory.Room<std::byte>(layout.bytes));
      Must(ResetState(layout, ops, states.back()));
      const LayerState& last = layout.layers.back();
      const int64_t bytes = last.entry_v + (last.entry_v - last.entry_k) - last.ring_k;
      Must(ops.FillRandom(states.back() + last.ring_k, bytes / SizeOf(ops.element()), 1, i));
      steps.push_back({.layout = &layout,
                       .state = states.back(),
                       .cursor = &cursors[i],
                       .tokens = std::vector<InputToken>(rows_each),
                       .read = {.budget = mem.budget, .gain = 0, .floor = -INFINITY}});
    }
    const StepBatch batch_on_host = MakeStepBatch(steps);
    const StepGroup& group = batch_on_host.groups[0];
    segments = group.segments;
    batch = {.chunks = memory.Put(group.chunks),
             .segments = memory.Put(group.segments),
             .num_chunks = static_cast<int32_t>(group.chunks.size()),
             .num_segments = static_cast<int32_t>(group.segments.size()),
             .num_rows = batch_on_host.num_rows(),
             .num_staged = group.num_staged};
    read = memory.Put(group.read);
    write = memory.Put(group.write);
    entries = group.num_entry_rows;
  }

  Ops& ops;
  const ModelConfig& model;
  const MemoryConfig mem;
  const StateLayout layout;
  Memory memory;
  std::vector<std::byte*> states;
  StreamBatch batch;
  std::vector<StreamSegment> segments;  // of the batch, on the host
  const ReadPolicy* read;
  const WritePolicy* write;
  int32_t entries;
};

double GemmFlops(const Matrix& w, int64_t rows) {
  return 2.0 * static_cast<double>(rows) * static_cast<double>(w.in()) *
         static_cast<double>(w.out());
}

// The operations on rows alone, and the products. `bound`: whether bytes bound the products.
void BenchRows(Ops& ops, const ModelConfig& m, int64_t rows, const char* step, bool bytes_bound,
               const Table& table) {
  Memory memory(ops);
  const int64_t q = int64_t{m.num_heads} * m.head_dim, kv = int64_t{m.num_kv_heads} * m.head_dim;
  const int64_t widest = std::max<int64_t>(m.intermediate, q);
  auto* x = memory.Floats(rows * m.hidden, 0.5f);
  const int64_t widest_out =
      std::max<int64_t>(2 * int64_t{m.intermediate}, bytes_bound ? m.vocab : 0);
  auto* wide = memory.Room<float>(rows * widest_out * 4);
  void* narrow = memory.Random(rows * widest);
  const auto gemm = [&](const char* name, int64_t out, int64_t in, bool accumulate) {
    const auto w = Must(ops.RandomMatrix(out, in, 0.02f, 7));
    const double seconds = Time(ops, [&] {
      return ops.Gemm({.x = narrow,
                       .w = w.get(),
                       .y = wide,
                       .rows = rows,
                       .x_stride = in,
                       .y_stride = out,
                       .accumulate = accumulate});
    });
    const double traffic = 2.0 * out * in + rows * (2.0 * in + (accumulate ? 8.0 : 4.0) * out);
    bytes_bound ? table.Bytes(step, name, seconds, traffic)
                : table.Flops(step, name, seconds, GemmFlops(*w, rows));
  };
  gemm("gemm qkv", q + 2 * kv, m.hidden, false);
  gemm("gemm output", m.hidden, q, true);
  gemm("gemm gate_up", 2 * int64_t{m.intermediate}, m.hidden, false);
  gemm("gemm down", m.hidden, m.intermediate, true);
  if (bytes_bound) gemm("gemm head", m.vocab, m.hidden, false);

  const float* weight = memory.Floats(m.hidden, 1);
  const double r = static_cast<double>(rows);
  table.Bytes(step, "rms_norm",
              Time(ops,
                   [&] {
                     return ops.RmsNorm({.x = x,
                                         .row = nullptr,
                                         .weight = weight,
                                         .y = narrow,
                                         .element = ops.element(),
                                         .rows = rows,
                                         .hidden = m.hidden,
                                         .x_stride = m.hidden,
                                         .epsilon = 1e-5f});
                   }),
              r * m.hidden * 6);
  const float* rotation = memory.Floats(rows * m.head_dim, 0.5f);
  void *qs = memory.Random(rows * q), *ks = memory.Random(rows * kv),
       *vs = memory.Random(rows * kv);
  table.Bytes(step, "rotary",
              Time(ops,
                   [&] {
                     return ops.Rotary({.qkv = wide,
                                        .bias = nullptr,
                                        .q_norm = nullptr,
                                        .k_norm = nullptr,
                                        .rotation = rotation,
                                        .q = qs,
                                        .k = ks,
                                        .v = vs,
                                        .element = ops.element(),
                                        .rows = rows,
                                        .num_heads = m.num_heads,
                                        .num_kv_heads = m.num_kv_heads,
                                        .head_dim = m.head_dim,
                                        .epsilon = 1e-5f});
                   }),
              r * (static_cast<double>(q + 2 * kv) * 6 + m.head_dim * 4.0));
  table.Bytes(step, "swiglu",
              Time(ops,
                   [&] {
                     return ops.Swiglu({.gate_up = wide,
                                        .y = narrow,
                                        .element = ops.element(),
                                        .rows = rows,
                                        .width = m.intermediate});
                   }),
              r * m.intermediate * 10);
}

// Makes clusters of the selected entries of all segments, as if all began in this batch, and leaves
// those of the ones that do not in their states.
EntryClusters BenchClusters(World& w, const char* step, const StreamAttentionArgs& attention,
                            const Table& table) {
  constexpr int32_t kRounds = 2;
  const ClusterLayout& at = w.layout.cluster_layout;
  const int64_t bytes = w.model.num_kv_heads * at.head_bytes;
  const auto num_segments = static_cast<int64_t>(w.segments.size());
  const EntryClusters clusters{.segments = w.memory.Room<std::byte>(num_segments * bytes),
                               .state_offset = w.layout.layers.back().clusters,
                               .num_clusters = w.mem.num_clusters,
                               .read_clusters = w.mem.read_clusters,
                               .min_entries = w.mem.cluster_min_entries,
                               .layout = at};
  std::vector<StreamSegment> beginning = w.segments;
  for (StreamSegment& segment : beginning) segment.begins = 1;
  StreamBatch batch = w.batch;
  batch.segments = w.memory.Put(beginning);
  const ClusterEntriesArgs args{.batch = batch,
                                .shape = w.layout.shape,
                                .element = w.ops.element(),
                                .num_kv_heads = w.model.num_kv_heads,
                                .compressed_dim = w.mem.compressed_dim,
                                .rounds = kRounds,
                                .selected = attention.selected,
                                .entry_k_offset = attention.entry_k_offset,
                                .entry_v_offset = attention.entry_v_offset,
                                .staged_k = attention.staged_k,
                                .staged_v = attention.staged_v,
                                .clusters = clusters};
  // A difference, a square and a sum of every entry, cluster and dimension: not by tensor cores,
  // whose ceiling it is shown against.
  table.Flops(step, "cluster_entries", Time(w.ops, [&] { return w.ops.ClusterEntries(args); }),
              3.0 * static_cast<double>(num_segments) * w.model.num_kv_heads *
                  w.layout.shape.max_selected * w.mem.num_clusters * w.mem.compressed_dim *
                  (kRounds + 1));
  for (int64_t i = 0; i < num_segments; ++i) {
    if (w.segments[i].begins != 0) continue;
    Must(w.ops.CopyOnDevice(w.states[w.segments[i].chunk] + clusters.state_offset,
                            clusters.segments + i * bytes, bytes));
  }
  return clusters;
}

// Attention and what belongs to the memory. `begins`: whether each stream begins a segment.
void BenchStreams(World& w, const char* step, bool decode, const Table& table) {
  Ops& ops = w.ops;
  const ModelConfig& m = w.model;
  const MemoryConfig& r = w.mem;
  const StreamShape& shape = w.layout.shape;
  const LayerState& layer = w.layout.layers.back();
  const int64_t rows = w.batch.num_rows, segments = w.batch.num_segments,
                staged = std::max(1, w.batch.num_staged);
  const int64_t q = int64_t{m.num_heads} * m.head_dim, kv = int64_t{m.num_kv_heads} * m.head_dim;
  const int64_t entry = int64_t{m.num_kv_heads} * r.compressed_dim;
  const int64_t size = SizeOf(ops.element());
  Memory& memory = w.memory;

  // Selected entries: different slots for each segment, in steps that visit the whole buffer.
  std::vector<int32_t> count(segments, shape.max_selected), row(segments * shape.max_selected);
  for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<int32_t>(i * 37 % shape.capacity);
  const SelectedEntries selected{
      .count = memory.Put(count),
      .row = memory.Put(row),
      .score = memory.Floats(segments * shape.max_selected, 0.5f),
      .log_gate = memory.Floats(segments * shape.max_selected, -0.5f),
      .position = memory.Room<int64_t>(segments * shape.max_selected * 8)};
  void* ks = memory.Random(rows * kv);
  void* vs = memory.Random(rows * kv);
  void *staged_k = memory.Random(staged * entry), *staged_v = memory.Random(staged * entry);
  const void* up = memory.Random(entry * m.head_dim, 0.1f);
  const float* per_head = memory.Floats(m.num_heads, 0.1f);
  StreamAttentionArgs attention{
      .batch = w.batch,
      .shape = shape,
      .element = ops.element(),
      .num_heads = m.num_heads,
      .num_kv_heads = m.num_kv_heads,
      .head_dim = m.head_dim,
      .q = memory.Random(rows * q),
      .k = ks,
      .v = vs,
      .ring_k_offset = layer.ring_k,
      .ring_v_offset = layer.ring_v,
      .sink_k_offset = layer.sink_k,
      .sink_v_offset = layer.sink_v,
      .sink_rotation = memory.Floats(segments * r.sinks * m.head_dim, 0.7f),
      .reads_memory = true,
      .compressed_dim = r.compressed_dim,
      .memory_rotation = memory.Floats(segments * m.head_dim, 0.7f),
      .selected = selected,
      .entry_k_offset = layer.entry_k,
      .entry_v_offset = layer.entry_v,
      .staged_k = staged_k,
      .staged_v = staged_v,
      .key_up = up,
      .value_up = up,
      .score_weight = per_head,
      .age_slope = per_head,
      .out = memory.Random(rows * q)};
  const double own = decode ? 33 : (r.segment + 1) / 2.0;
  const double exact = r.sinks + r.window + own;
  const auto bench_attention = [&](const char* name) {
    const double seconds = Time(ops, [&] { return ops.StreamAttention(attention); });
    if (decode) {
      const auto entry_bytes = static_cast<double>(
          EntryRowBytes(attention.entry_type, ops.element(), m.num_kv_heads, r.compressed_dim));
      const double bytes =
          static_cast<double>(rows) *
          (exact * 2.0 * kv * size + shape.max_selected * 2.0 * entry_bytes + 2.0 * q * size);
      table.Bytes(step, name, seconds, bytes);
    } else {
      const double flops =
          static_cast<double>(rows) *
          (4.0 * exact * q + 4.0 * shape.max_selected * m.num_heads * r.compressed_dim +
           4.0 * q * r.compressed_dim);
      table.Flops(step, name, seconds, flops);
    }
  };
  bench_attention("attention");
  // The same bytes as rows in int8: any bits will do.
  attention.entry_type = EntryType::kInt8;
  bench_attention("attention int8 entries");
  attention.entry_type = EntryType::kElement;
  // The rate is of the same bytes, read or not. Entries and queries are random, which is the worst
  // case: heads choose clusters of their own.
  attention.clusters = BenchClusters(w, step, attention, table);
  bench_attention("attention by clusters");
  const auto ring = [&](const char* name, int64_t offset, const void* chunk, int64_t row_bytes) {
    table.Bytes(step, name,
                Time(ops,
                     [&] {
                       return ops.WriteRing({.batch = w.batch,
                                             .ring_offset = offset,
                                             .ring_rows = shape.ring_rows,
                                             .chunk = chunk,
                                             .row_bytes = row_bytes});
                     }),
                2.0 *
                    static_cast<double>(
                        std::min<int64_t>(rows, int64_t{w.batch.num_chunks} * shape.ring_rows)) *
                    row_bytes);
  };
  ring("write_ring k", layer.ring_k, ks, kv * size);
  if (w.batch.num_staged == 0) return;

  // A full table of entries, random priorities.
  const RetrievalState& retrieval = w.layout.retrievals[0];
  std::vector<int64_t> position(shape.capacity);
  std::vector<double> priority(shape.capacity);
  for (int32_t i = 0; i < shape.capacity; ++i) {
    position[i] = i * 40 + 4;
    priority[i] = static_cast<double>((i * 7919) % 10007) / 10007;
  }
  for (std::byte* state : w.states) {
    Must(ops.CopyToDevice(state + w.layout.entry_position, position.data(), shape.capacity * 8));
    Must(ops.CopyToDevice(state + w.layout.entry_priority, priority.data(), shape.capacity * 8));
    Must(ops.FillRandom(state + retrieval.entry_index, int64_t{shape.capacity} * r.index_dim, 0.1f,
                        3));
  }
  std::vector<double> staged_priority(staged);
  for (int64_t i = 0; i < staged; ++i) {
    staged_priority[i] = static_cast<double>((i * 104729) % 10009) / 10009;
  }
  const int64_t stride = shape.capacity + w.batch.num_staged;
  auto* born = memory.Room<int32_t>(int64_t{w.entries} * 4);
  auto* died = memory.Room<int32_t>(int64_t{w.entries} * 4);
  auto* row_position = memory.Room<int64_t>(int64_t{w.entries} * 8);
  auto* row_log_gate = memory.Room<float>(int64_t{w.entries} * 4);
  auto* slot = memory.Room<int32_t>(staged * 4);
  auto* score = memory.Room<float>(segments * stride * 4);
  auto* key = memory.Room<float>(segments * stride * 4);
  const ReplaceEntriesArgs replace{.batch = w.batch,
                                   .shape = shape,
                                   .position_offset = w.layout.entry_position,
                                   .priority_offset = w.layout.entry_priority,
                                   .log_gate_offset = w.layout.entry_log_gate,
                                   .token_offset = w.layout.entry_token,
                                   .staged_priority = memory.Put(staged_priority),
                                   .staged_log_gate = memory.Floats(staged, -0.5f),
                                   .staged_token = memory.Room<int32_t>(staged * 4),
                                   .born = born,
                                   .died = died,
                                   .row_position = row_position,
                                   .row_log_gate = row_log_gate,
                                   .row_token = memory.Room<int32_t>(int64_t{w.entries} * 4),
                                   .slot = slot,
                                   .num_replaced = memory.Room<int32_t>(w.batch.num_chunks * 4)};
  // The first call alone replaces: later ones find the survivors in place. Both are bounded by its
  // walk's latency.
  table.Bytes(step, "replace_entries", Time(ops, [&] { return ops.ReplaceEntries(replace); }),
              static_cast<double>(w.entries) * 44);
  RetrievalScoresArgs scores{.batch = w.batch,
                             .shape = shape,
                             .index_dim = r.index_dim,
                             .element = ops.element(),
                             .temperature = 5,
                             .query_ring_offset = retrieval.ring_query,
                             .query = memory.Random(rows * r.index_dim, 0.1f),
                             .entry_index_offset = retrieval.entry_index,
                             .staged_index = memory.Random(staged * r.index_dim, 0.1f),
                             .born = born,
                             .died = died,
                             .row_log_gate = row_log_gate,
                             .score = score,
                             .key = key,
                             .stride = stride};
  const auto bench_scores = [&](const char* name) {
    const double seconds = Time(ops, [&] { return ops.RetrievalScores(scores); });
    if (!decode) {
      table.Flops(step, name, seconds,
                  2.0 * static_cast<double>(segments) * shape.capacity * r.segment * r.index_dim);
      return;
    }
    // Of each entry, slot or staged: its key and three words are read, two written; and the
    // queries.
    const double per_entry =
        static_cast<double>(EntryRowBytes(scores.entry_type, ops.element(), 1, r.index_dim)) + 20.0;
    table.Bytes(
        step, name, seconds,
        w.entries * per_entry + static_cast<double>(segments * r.segment * r.index_dim * size));
  };
  bench_scores("retrieval_scores");
  scores.entry_type = EntryType::kInt8;
  bench_scores("retrieval_scores int8");
  scores.entry_type = EntryType::kElement;
  table.Bytes(step, "select_entries",
              Time(ops,
                   [&] {
                     return ops.SelectEntries({.batch = w.batch,
                                               .shape = shape,
                                               .score = score,
                                               .key = key,
                                               .stride = stride,
                                               .row_position = row_position,
                                               .row_log_gate = row_log_gate,
                                               .slot = slot,
                                               .policy = w.read,
                                               .state = retrieval.selection,
                                               .selected = selected});
                   }),
              static_cast<double>(segments) * (shape.capacity * 4.0 + shape.max_selected * 60.0));
  CompressEntriesArgs compress{.batch = w.batch,
                               .shape = shape,
                               .element = ops.element(),
                               .num_kv_heads = m.num_kv_heads,
                               .head_dim = m.head_dim,
                               .compressed_dim = r.compressed_dim,
                               .rotation = memory.Floats(staged * m.head_dim, 0.7f),
                               .ring_k_offset = layer.ring_k,
                               .ring_v_offset = layer.ring_v,
                               .k = ks,
                               .v = vs,
                               .key_down = up,
                               .value_down = up,
                               .staged_k = staged_k,
                               .staged_v = staged_v};
  table.Bytes(step, "compress_entries", Time(ops, [&] { return ops.CompressEntries(compress); }),
              static_cast<double>(staged) * 2 * (kv + entry) * size);
  compress.entry_type = EntryType::kInt8;
  table.Bytes(step, "compress_entries int8",
              Time(ops, [&] { return ops.CompressEntries(compress); }),
              static_cast<double>(staged) * 2 *
                  static_cast<double>(kv * size + Int8RowBytes(m.num_kv_heads, r.compressed_dim)));
  table.Bytes(step, "commit_rows",
              Time(ops,
                   [&] {
                     return ops.CommitRows({.batch = w.batch,
                                            .entries_offset = layer.entry_k,
                                            .staged = staged_k,
                                            .slot = slot,
                                            .row_bytes = entry * size});
                   }),
              2.0 * static_cast<double>(staged) * entry * size);
}

void BenchSample(Ops& ops, const ModelConfig& m, int64_t rows, const Table& table) {
  Memory memory(ops);
  // As peaked as a trained model's: normal, of deviation 3.
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> values(m.vocab);
  for (float& value : values) value = normal(random);
  auto* logits = memory.Room<float>(rows * m.vocab * 4);
  for (int64_t i = 0; i < rows; ++i) {
    Must(ops.CopyToDevice(logits + i * m.vocab, values.data(), int64_t{m.vocab} * 4));
  }
  auto* token = memory.Room<int32_t>(rows * 4);
  auto* logprob = memory.Room<float>(rows * 4);
  const auto run = [&](const char* name, const SamplePolicy& policy) {
    const SamplePolicy* policies = memory.Put(std::vector<SamplePolicy>(rows, policy));
    table.Bytes("decode", name,
                Time(ops,
                     [&] {
                       return ops.Sample({.logits = logits,
                                          .policy = policies,
                                          .rows = rows,
                                          .vocab = m.vocab,
                                          .max_alternatives = 0,
                                          .token = token,
                                          .logprob = logprob,
                                          .alternative = nullptr,
                                          .alternative_logprob = nullptr});
                     }),
                4.0 * static_cast<double>(rows) * m.vocab);
  };
  run("sample greedy", {});
  run("sample t=0.8 top_p=0.9", {.temperature = 0.8f, .top_p = 0.9f, .seed = 1});
}

int Main(int argc, char** argv) {
  std::string model = testing::SourcePath("models/llama-3.1-8b-shape");
  int32_t streams = 256, rows = 4096;
  ParseFlags(argc, argv, {{"--model", &model}, {"--streams", &streams}, {"--rows", &rows}});
  const auto ops = Must(OpenOps({.device = "cuda"}));
  const auto checkpoint = Must(Checkpoint::Open(model, LoadFormat::kDummy));
  const Ceilings ceilings = MeasureCeilings(*ops);
  std::printf("%s: copy %.0f GB/s (read + write), bf16 GEMM 8192^3 %.0f TFLOP/s\n",
              ops->device().c_str(), ceilings.bytes_per_second * 1e-9,
              ceilings.flops_per_second * 1e-12);
  std::printf("%s: decode of %d streams, append of %d rows\n", model.c_str(), streams, rows);
  const Table table(ceilings);
  BenchRows(*ops, checkpoint->model(), streams, "decode", /*bytes_bound=*/true, table);
  BenchSample(*ops, checkpoint->model(), streams, table);
  {
    World world(*ops, *checkpoint, streams, /*rows_each=*/1, /*begins=*/false);
    BenchStreams(world, "decode", /*decode=*/true, table);
  }
  {
    World world(*ops, *checkpoint, streams, /*rows_each=*/1, /*begins=*/true);
    BenchStreams(world, "retrieve", /*decode=*/true, table);
  }
  BenchRows(*ops, checkpoint->model(), rows, "append", /*bytes_bound=*/false, table);
  World world(*ops, *checkpoint, /*streams=*/8, rows / 8, /*begins=*/true);
  BenchStreams(world, "append", /*decode=*/false, table);
  return 0;
}

}  // namespace
}  // namespace rasq

int main(int argc, char** argv) { return rasq::Main(argc, argv); }
