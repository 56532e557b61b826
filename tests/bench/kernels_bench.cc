// The CPU operations at the shipped model's shape (d=384, 8 layers, 6 query and 2 kv heads of 64,
// ff=1024, window 448, segment 64, capacity 1024, 128 selected) for a chunk of 512 tokens of one
// stream, and for one step of decoding. `gflops` or `gbytes` per second stand beside `of_ceiling`,
// the share of the best product that this machine did in the same run (1024x384x1024, in the
// element type, on all threads). `per_layer_us` is the time itself.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/ops.h"
#include "tests/bench/bench.h"
#include "tests/support/stream_batches.h"
#include "tests/support/tensors.h"

namespace rasq {
namespace {

constexpr int64_t kHidden = 384, kWidth = 1024, kHeads = 6, kKvHeads = 2, kDim = 64;
constexpr int64_t kCompressed = 32, kIndex = 64, kVocab = 8192;
constexpr StreamShape kShape = {.window_rows = 448,
                                .segment_rows = 64,
                                .sink_rows = 4,
                                .capacity = 1024,
                                .max_selected = 128,
                                .memory_span = 128,
                                .ring_rows = 512};

Ops& Backend() {
  static const std::unique_ptr<Ops> ops = Must(OpenOps({.device = "cpu"}));
  return *ops;
}

std::unique_ptr<Matrix> Weight(int64_t out, int64_t in) {
  return Must(Backend().PackMatrix(RandomFloats(out * in, /*seed=*/1).data(), out, in));
}

// Floating-point operations a second of the machine's best product.
double Ceiling() {
  static const double ceiling = [] {
    const auto w = Weight(1024, kHidden);
    const Elements x(Backend().element(), RandomFloats(1024 * kHidden, /*seed=*/2));
    std::vector<float> y(1024 * 1024);
    double best = 0;
    for (int i = 0; i < 50; ++i) {
      const auto begin = Clock::now();
      Must(Backend().Gemm({.x = x.data(),
                           .w = w.get(),
                           .y = y.data(),
                           .rows = 1024,
                           .x_stride = kHidden,
                           .y_stride = 1024,
                           .accumulate = false}));
      best = std::max(best, 2.0 * 1024 * 1024 * kHidden / SecondsSince(begin));
    }
    return best;
  }();
  return ceiling;
}

void ReportFlops(benchmark::State& state, double flops_each) {
  const double ceiling = Ceiling();
  const double total = flops_each * static_cast<double>(state.iterations());
  state.counters["gflops"] = benchmark::Counter(total / 1e9, benchmark::Counter::kIsRate);
  state.counters["of_ceiling"] = benchmark::Counter(total / ceiling, benchmark::Counter::kIsRate);
}

void ReportBytes(benchmark::State& state, double bytes_each) {
  state.counters["gbytes"] = benchmark::Counter(
      bytes_each * static_cast<double>(state.iterations()) / 1e9, benchmark::Counter::kIsRate);
}

void BM_Gemm(benchmark::State& state) {
  const int64_t rows = state.range(0), in = state.range(1), out = state.range(2);
  const bool accumulate = state.range(3) != 0;
  const auto w = Weight(out, in);
  const Elements x(Backend().element(), RandomFloats(rows * in, /*seed=*/2));
  std::vector<float> y(rows * out);
  for (auto _ : state) {
    Must(Backend().Gemm({.x = x.data(),
                         .w = w.get(),
                         .y = y.data(),
                         .rows = rows,
                         .x_stride = in,
                         .y_stride = out,
                         .accumulate = accumulate}));
  }
  ReportFlops(state, 2.0 * static_cast<double>(rows * in * out));
  state.counters["weight_gbytes"] = benchmark::Counter(
      static_cast<double>(w->bytes() * state.iterations()) / 1e9, benchmark::Counter::kIsRate);
}
BENCHMARK(BM_Gemm)
    ->ArgNames({"rows", "in", "out", "add"})
    ->Args({1024, kHidden, 1024, 0})
    ->Args({512, kHidden, (kHeads + 2 * kKvHeads) * kDim, 0})
    ->Args({512, kHidden, kHidden, 1})
    ->Args({512, kHidden, 2 * kWidth, 0})
    ->Args({512, kWidth, kHidden, 1})
    ->Args({1, kHidden, (kHeads + 2 * kKvHeads) * kDim, 0})
    ->Args({1, kHidden, 2 * kWidth, 0})
    ->Args({1, kWidth, kHidden, 1})
    ->Args({1, kHidden, kVocab, 0})
    ->UseRealTime();

void BM_RmsNorm(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const auto x = RandomFloats(rows * kHidden, 1), w = RandomFloats(kHidden, 2);
  Elements y(Backend().element(), rows * kHidden);
  for (auto _ : state) {
    Must(Backend().RmsNorm({.x = x.data(),
                            .row = nullptr,
                            .weight = w.data(),
                            .y = y.data(),
                            .element = Backend().element(),
                            .rows = rows,
                            .hidden = kHidden,
                            .x_stride = kHidden,
                            .epsilon = 1e-5f}));
  }
  ReportBytes(state, static_cast<double>(rows * kHidden * (4 + SizeOf(Backend().element()))));
}
BENCHMARK(BM_RmsNorm)->Arg(512)->Arg(1)->UseRealTime();

void BM_Swiglu(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const auto x = RandomFloats(rows * 2 * kWidth, 1);
  Elements y(Backend().element(), rows * kWidth);
  for (auto _ : state) {
    Must(Backend().Swiglu({.gate_up = x.data(),
                           .y = y.data(),
                           .element = Backend().element(),
                           .rows = rows,
                           .width = kWidth}));
  }
  ReportBytes(state, static_cast<double>(rows * kWidth * (8 + SizeOf(Backend().element()))));
}
BENCHMARK(BM_Swiglu)->Arg(512)->Arg(1)->UseRealTime();

void BM_Rotary(benchmark::State& state) {
  const int64_t rows = state.range(0), width = (kHeads + 2 * kKvHeads) * kDim;
  const auto qkv = RandomFloats(rows * width, 1), norm = RandomFloats(kDim, 2),
             rotation = RandomFloats(rows * kDim, 3);
  const DType type = Backend().element();
  Elements q(type, rows * kHeads * kDim), k(type, rows * kKvHeads * kDim), v = k;
  for (auto _ : state) {
    Must(Backend().Rotary({.qkv = qkv.data(),
                           .bias = nullptr,
                           .q_norm = norm.data(),
                           .k_norm = norm.data(),
                           .rotation = rotation.data(),
                           .q = q.data(),
                           .k = k.data(),
                           .v = v.data(),
                           .element = type,
                           .rows = rows,
                           .num_heads = kHeads,
                           .num_kv_heads = kKvHeads,
                           .head_dim = kDim,
                           .epsilon = 1e-5f}));
  }
  ReportBytes(state, static_cast<double>(rows * width * (4 + SizeOf(type))));
}
BENCHMARK(BM_Rotary)->Arg(512)->Arg(1)->UseRealTime();

// One stream, far from its start, with what the operations over streams read and write.
struct StreamWorld {
  explicit StreamWorld(int64_t rows) : builder(kShape) {
    const int64_t size = SizeOf(type), kv = kKvHeads * kDim * size;
    const int64_t entry = kKvHeads * kCompressed * size;
    ring_v = kShape.ring_rows * kv;
    sink_k = 2 * ring_v;
    sink_v = sink_k + kShape.sink_rows * kv;
    entry_k = sink_v + kShape.sink_rows * kv;
    entry_v = entry_k + kShape.capacity * entry;
    index = entry_v + kShape.capacity * entry;
    query_ring = index + kShape.capacity * kIndex * size;
    table = query_ring + kShape.segment_rows * kIndex * size;
    selection = table + kShape.capacity * 24;
    state.resize(selection + 64 + kShape.max_selected * 20);
    const Elements filling(type, RandomFloats(table / size, 1));
    std::memcpy(state.data(), filling.data(), table);
    for (int64_t i = 0; i < kShape.capacity; ++i) {
      const int64_t position = 5 + i;
      const double rank = static_cast<double>((i * 37) % 1024);
      std::memcpy(state.data() + table + i * 8, &position, 8);
      std::memcpy(state.data() + table + (kShape.capacity + i) * 8, &rank, 8);
    }
    // An append chunk of whole segments; or a token in the middle of a segment.
    if (rows >= kShape.segment_rows) {
      builder.Add({.first_position = 6400,
                   .segment_rows = std::vector<int32_t>(rows / 64, 64),
                   .leave_begin = 6400 - 64 - kShape.window_rows},
                  state.data());
    } else {
      builder.Add({.first_position = 6430,
                   .segment_rows = {static_cast<int32_t>(rows)},
                   .first_start = 6400,
                   .leave_begin = 6400 - kShape.window_rows},
                  state.data());
    }
    batch = builder.Batch();
    q = Elements(type, RandomFloats(rows * kHeads * kDim, 2));
    k = Elements(type, RandomFloats(rows * kKvHeads * kDim, 3));
    v = Elements(type, RandomFloats(rows * kKvHeads * kDim, 4));
    out = q;
    queries = Elements(type, RandomFloats(rows * kIndex, 5, 0.2f));
    const int64_t staged = batch.num_staged + 1;
    staged_k = Elements(type, RandomFloats(staged * kKvHeads * kCompressed, 6));
    staged_v = staged_k;
    staged_index = Elements(type, RandomFloats(staged * kIndex, 7, 0.2f));
    rotation = RandomFloats(std::max(rows, staged) * kDim, 8);
    memory_rotation = RandomFloats(batch.num_segments * kDim, 9);
    sink_rotation = RandomFloats(batch.num_segments * kShape.sink_rows * kDim, 10);
    up = Elements(type, RandomFloats(kKvHeads * kDim * kCompressed, 11));
    per_head = RandomFloats(kHeads, 12, 0.1f);
    priority.assign(staged, 500);
    staged_gate.assign(staged, -1);
    staged_token.assign(staged, 1);
    born.assign(builder.num_entries(), 0);
    died.assign(builder.num_entries(), INT_MAX);
    row_token = born;
    slot.assign(staged, -1);
    row_position.assign(builder.num_entries(), 1);
    row_gate.assign(builder.num_entries(), -1);
    stride = builder.num_entries();
    score.assign(batch.num_segments * stride, 0);
    key = RandomFloats(batch.num_segments * stride, 13);
    count.assign(batch.num_segments, kShape.max_selected);
    for (int64_t i = 0; i < int64_t{batch.num_segments} * kShape.max_selected; ++i) {
      selected_row.push_back(static_cast<int32_t>((i * 7) % kShape.capacity));
    }
    selected_score.assign(selected_row.size(), 0.5f);
    selected_gate.assign(selected_row.size(), -0.5f);
    selected_position.assign(selected_row.size(), 0);
    selected = {count.data(), selected_row.data(), selected_score.data(), selected_gate.data(),
                selected_position.data()};
  }

  const DType type = Backend().element();
  BatchBuilder builder;
  StreamBatch batch;
  std::vector<std::byte> state;
  int64_t ring_v, sink_k, sink_v, entry_k, entry_v, index, query_ring, table, selection, stride;
  Elements q, k, v, out, up, queries, staged_k, staged_v, staged_index;
  std::vector<float> rotation, memory_rotation, sink_rotation, per_head, staged_gate, row_gate,
      score, key, selected_score, selected_gate;
  std::vector<double> priority;
  std::vector<int32_t> staged_token, born, died, row_token, slot, count, selected_row;
  std::vector<int64_t> row_position, selected_position;
  SelectedEntries selected;
};

void BM_StreamAttention(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const bool memory = state.range(1) != 0;
  StreamWorld w(rows);
  const StreamAttentionArgs args{.batch = w.batch,
                                 .shape = kShape,
                                 .element = w.type,
                                 .num_heads = kHeads,
                                 .num_kv_heads = kKvHeads,
                                 .head_dim = kDim,
                                 .q = w.q.data(),
                                 .k = w.k.data(),
                                 .v = w.v.data(),
                                 .ring_k_offset = 0,
                                 .ring_v_offset = w.ring_v,
                                 .sink_k_offset = w.sink_k,
                                 .sink_v_offset = w.sink_v,
                                 .sink_rotation = w.sink_rotation.data(),
                                 .reads_memory = memory,
                                 .compressed_dim = kCompressed,
                                 .memory_rotation = w.memory_rotation.data(),
                                 .selected = w.selected,
                                 .entry_k_offset = w.entry_k,
                                 .entry_v_offset = w.entry_v,
                                 .staged_k = w.staged_k.data(),
                                 .staged_v = w.staged_v.data(),
                                 .key_up = w.up.data(),
                                 .value_up = w.up.data(),
                                 .score_weight = w.per_head.data(),
                                 .age_slope = w.per_head.data(),
                                 .out = w.out.data()};
  for (auto _ : state) Must(Backend().StreamAttention(args));
  // Two products of the window and its own half segment, and of the entries in their own width.
  const double keys = 448 + 4 + (rows > 1 ? 32 : 31);
  ReportFlops(state, 4.0 * static_cast<double>(rows * kHeads) *
                         (keys * kDim + (memory ? 128 * kCompressed + kDim * kCompressed : 0)));
}
BENCHMARK(BM_StreamAttention)
    ->ArgNames({"rows", "memory"})
    ->Args({512, 1})
    ->Args({512, 0})
    ->Args({1, 1})
    ->Args({1, 0})
    ->UseRealTime();

void BM_CompressEntries(benchmark::State& state) {
  StreamWorld w(512);
  for (auto _ : state) {
    Must(Backend().CompressEntries({.batch = w.batch,
                                    .shape = kShape,
                                    .element = w.type,
                                    .num_kv_heads = kKvHeads,
                                    .head_dim = kDim,
                                    .compressed_dim = kCompressed,
                                    .rotation = w.rotation.data(),
                                    .ring_k_offset = 0,
                                    .ring_v_offset = w.ring_v,
                                    .k = w.k.data(),
                                    .v = w.v.data(),
                                    .key_down = w.up.data(),
                                    .value_down = w.up.data(),
                                    .staged_k = w.staged_k.data(),
                                    .staged_v = w.staged_v.data()}));
  }
  ReportFlops(state, 4.0 * w.batch.num_staged * kKvHeads * kDim * kCompressed);
}
BENCHMARK(BM_CompressEntries)->UseRealTime();

void BM_RetrievalScores(benchmark::State& state) {
  StreamWorld w(512);
  for (auto _ : state) {
    Must(Backend().RetrievalScores({.batch = w.batch,
                                    .shape = kShape,
                                    .index_dim = kIndex,
                                    .element = w.type,
                                    .temperature = 10,
                                    .query_ring_offset = w.query_ring,
                                    .query = w.queries.data(),
                                    .entry_index_offset = w.index,
                                    .staged_index = w.staged_index.data(),
                                    .born = w.born.data(),
                                    .died = w.died.data(),
                                    .row_log_gate = w.row_gate.data(),
                                    .score = w.score.data(),
                                    .key = w.key.data(),
                                    .stride = w.stride}));
  }
  ReportFlops(state, 2.0 * w.batch.num_segments * 64 * static_cast<double>(w.stride) * kIndex);
}
BENCHMARK(BM_RetrievalScores)->UseRealTime();

void BM_SelectEntries(benchmark::State& state) {
  StreamWorld w(512);
  const ReadPolicy policy{.budget = 128, .gain = 0, .floor = -1e30f};
  for (auto _ : state) {
    Must(Backend().SelectEntries({.batch = w.batch,
                                  .shape = kShape,
                                  .score = w.score.data(),
                                  .key = w.key.data(),
                                  .stride = w.stride,
                                  .row_position = w.row_position.data(),
                                  .row_log_gate = w.row_gate.data(),
                                  .slot = w.slot.data(),
                                  .policy = &policy,
                                  .state = {.count = w.selection,
                                            .row = w.selection + 64,
                                            .score = w.selection + 64 + 512,
                                            .log_gate = w.selection + 64 + 1024,
                                            .position = w.selection + 64 + 1536},
                                  .selected = w.selected}));
  }
  ReportBytes(state, 4.0 * w.batch.num_segments * static_cast<double>(w.stride));
}
BENCHMARK(BM_SelectEntries)->UseRealTime();

void BM_ClusterEntries(benchmark::State& state) {
  constexpr int32_t kClusters = 32, kRounds = 2;
  StreamWorld w(512);
  const ClusterLayout layout =
      MakeClusterLayout(kClusters, kCompressed, kShape.max_selected, w.type);
  std::vector<std::byte> clusters(w.batch.num_segments * kKvHeads * layout.head_bytes);
  for (auto _ : state) {
    Must(Backend().ClusterEntries({.batch = w.batch,
                                   .shape = kShape,
                                   .element = w.type,
                                   .num_kv_heads = kKvHeads,
                                   .compressed_dim = kCompressed,
                                   .rounds = kRounds,
                                   .selected = w.selected,
                                   .entry_k_offset = w.entry_k,
                                   .entry_v_offset = w.entry_v,
                                   .staged_k = w.staged_k.data(),
                                   .staged_v = w.staged_v.data(),
                                   .clusters = {.segments = clusters.data(),
                                                .state_offset = 0,
                                                .num_clusters = kClusters,
                                                .read_clusters = 8,
                                                .min_entries = 0,
                                                .layout = layout}}));
  }
  // A difference, a square and a sum of every entry, cluster and dimension.
  ReportFlops(state, 3.0 * w.batch.num_segments * kKvHeads * kShape.max_selected * kClusters *
                         kCompressed * (kRounds + 1));
}
BENCHMARK(BM_ClusterEntries)->UseRealTime();

void BM_ReplaceEntries(benchmark::State& state) {
  StreamWorld w(512);
  int32_t num_replaced = 0;
  const std::vector<std::byte> before = w.state;
  for (auto _ : state) {
    std::memcpy(w.state.data() + w.table, before.data() + w.table, kShape.capacity * 24);
    Must(Backend().ReplaceEntries({.batch = w.batch,
                                   .shape = kShape,
                                   .position_offset = w.table,
                                   .priority_offset = w.table + kShape.capacity * 8,
                                   .log_gate_offset = w.table + kShape.capacity * 16,
                                   .token_offset = w.table + kShape.capacity * 20,
                                   .staged_priority = w.priority.data(),
                                   .staged_log_gate = w.staged_gate.data(),
                                   .staged_token = w.staged_token.data(),
                                   .born = w.born.data(),
                                   .died = w.died.data(),
                                   .row_position = w.row_position.data(),
                                   .row_log_gate = w.row_gate.data(),
                                   .row_token = w.row_token.data(),
                                   .slot = w.slot.data(),
                                   .num_replaced = &num_replaced}));
  }
  state.counters["replaced"] = num_replaced;
}
BENCHMARK(BM_ReplaceEntries)->UseRealTime();

void BM_RotationTable(benchmark::State& state) {
  StreamWorld w(state.range(0));
  const std::vector<double> inv_freq(kDim / 2, 0.1);
  std::vector<float> row(w.batch.num_rows * kDim), staged((w.batch.num_staged + 1) * kDim);
  for (auto _ : state) {
    Must(Backend().RotationTable({.batch = w.batch,
                                  .shape = kShape,
                                  .inv_freq = inv_freq.data(),
                                  .head_dim = kDim,
                                  .row = row.data(),
                                  .memory = w.memory_rotation.data(),
                                  .sink = w.sink_rotation.data(),
                                  .staged = staged.data()}));
  }
}
BENCHMARK(BM_RotationTable)->Arg(512)->Arg(1)->UseRealTime();

void BM_Sample(benchmark::State& state) {
  auto logits = RandomFloats(kVocab, 1, 8);
  SamplePolicy policy;
  policy.temperature = state.range(0) != 0 ? 0.8f : 0.0f;
  policy.top_p = state.range(0) != 0 ? 0.95f : 1.0f;
  int32_t token;
  float logprob;
  for (auto _ : state) {
    ++policy.draw;
    Must(Backend().Sample({.logits = logits.data(),
                           .policy = &policy,
                           .rows = 1,
                           .vocab = kVocab,
                           .max_alternatives = 0,
                           .token = &token,
                           .logprob = &logprob,
                           .alternative = nullptr,
                           .alternative_logprob = nullptr}));
  }
}
BENCHMARK(BM_Sample)->ArgName("top_p")->Arg(0)->Arg(1)->UseRealTime();

}  // namespace
}  // namespace rasq

BENCHMARK_MAIN();
