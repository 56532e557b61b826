#include "kernels/chunk_entries.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/stream_attention.h"
#include "tests/support/head_store_world.h"

namespace rasq {
namespace {

using testing::HeadStoreWorld;

constexpr int32_t kHeads = 4, kKvHeads = 2, kGroup = 2, kDim = 4, kWindow = 70, kSegment = 64;

class ChunkWorld : public HeadStoreWorld {
 public:
  ChunkWorld(DType type, int32_t kept, int32_t read)
      : HeadStoreWorld({.window_rows = kWindow,
                        .segment_rows = kSegment,
                        .sink_rows = 0,
                        .capacity = kKvHeads * kept * kChunkRows,
                        .max_selected = read * kChunkRows,
                        .memory_span = 0,
                        .ring_rows = kWindow + kSegment},
                       type, kKvHeads, kDim, /*own_bytes=*/8 * 1024),
        kept_(kept),
        read_(read),
        scores_(kKvHeads * kept),
        fused(kKvHeads * read),
        used_(kKvHeads) {}

  ChunkTable Table() const {
    const auto part = [this](int64_t i) { return own + 1024 * i; };
    return {part(0), part(1), part(2), part(3), part(4), part(5), part(6), part(7)};
  }
  ChunkEntriesArgs Args(const StreamBatch& batch) {
    return {.store = Store(batch),
            .chunks = kept_,
            .read_chunks = read_,
            .table = Table(),
            .score = scores_.data(),
            .lists = Lists(),
            .fused_weight = fused.data()};
  }
  double Query(int64_t at, int64_t head, int64_t d) const {
    return Elements(element, RandomFloats(kDim, 50000 + at * kHeads + head, 3))[d];
  }
  // Those of the next rows, as a layer has them.
  Elements Queries(int32_t rows) const {
    Elements q(element, int64_t{rows} * kHeads * kDim);
    for (int64_t i = 0; i < q.size(); ++i) {
      q.Set(i,
            static_cast<float>(Query(position + i / kDim / kHeads, i / kDim % kHeads, i % kDim)));
    }
    return q;
  }
  void AddQueries(const StreamBatch& batch, int32_t rows, ThreadPool& pool) const {
    const Elements q = Queries(rows);
    const absl::Status status = ChunkQueriesCpu({.batch = batch,
                                                 .element = element,
                                                 .num_heads = kHeads,
                                                 .num_kv_heads = kKvHeads,
                                                 .head_dim = kDim,
                                                 .q = q.data(),
                                                 .table = Table()},
                                                pool);
    ASSERT_TRUE(status.ok()) << status;
  }

  // What a kv head keeps and reads, in double precision: chunks with the sum of their weights, and
  // the weights of those that are read, for a segment after the one at [before, position).
  struct Reading {
    std::map<int64_t, double> weight;  // by chunk
  };
  int64_t Tokens(int64_t chunk) const { return std::min<int64_t>(64, left - 64 * chunk); }
  Reading Begin(int64_t head, int64_t before, int64_t first_leaving) {
    std::map<int64_t, double>& used = used_[head];
    for (int64_t p = first_leaving; p < left; ++p) {
      if (used.contains(p / 64)) continue;
      if (static_cast<int32_t>(used.size()) == kept_) {
        used.erase(std::min_element(used.begin(), used.end(), [](const auto& x, const auto& y) {
          return x.second < y.second;  // of equal ones the first: the oldest
        }));
      }
      used[p / 64] = 0;
    }
    std::vector<std::pair<double, int64_t>> scores;
    for (const auto& [chunk, sum] : used) {
      double score = 0;
      for (int64_t d = 0; d < kDim; ++d) {
        double query = 0, key = 0;
        for (int64_t p = before; p < position; ++p) {
          for (int64_t g = 0; g < kGroup; ++g) query += Query(p, head * kGroup + g, d) / kGroup;
        }
        for (int64_t i = 0; i < Tokens(chunk); ++i) key += At(true, 64 * chunk + i, head, d);
        score += query / static_cast<double>(position - before) * key /
                 static_cast<double>(Tokens(chunk));
      }
      scores.emplace_back(score / std::sqrt(double{kDim}), chunk);
    }
    std::sort(scores.rbegin(), scores.rend());
    if (static_cast<int32_t>(scores.size()) > read_) scores.resize(read_);
    double sum = 0;
    for (const auto& [score, chunk] : scores) sum += std::exp(score);
    Reading reading;
    for (const auto& [score, chunk] : scores) {
      reading.weight[chunk] = std::exp(score) / sum;
      used[chunk] += std::exp(score) / sum;
    }
    return reading;
  }
  void ExpectReads(int64_t head, const Reading& reading) const {
    ASSERT_EQ(count[head], static_cast<int32_t>(reading.weight.size()) * 64);
    int64_t i = 0;
    for (const auto& [chunk, want] : reading.weight) {
      EXPECT_NEAR(fused[head * read_ + i / 64], want, 1e-4) << "chunk " << chunk;
      for (int64_t j = 0; j < 64; ++j, ++i) {
        if (j >= Tokens(chunk)) {
          EXPECT_EQ(BiasOf(head, i), -std::numeric_limits<float>::infinity());
          continue;
        }
        EXPECT_EQ(BiasOf(head, i), 0);
        for (const bool key : {true, false}) {
          for (int64_t d = 0; d < kDim; ++d) {
            ASSERT_EQ(Stored(key, RowOf(head, i), d), At(key, 64 * chunk + j, head, d))
                << "chunk " << chunk << " token " << j;
          }
        }
      }
    }
  }

 private:
  const int32_t kept_, read_;
  std::vector<float> scores_;

 public:
  std::vector<float> fused;  // the operation's weights

 private:
  std::vector<std::map<int64_t, double>> used_;  // by kv head and chunk
};

// Segments of changing lengths, some of them in two parts; chunks that are open when the segment
// begins; stores that hold all chunks, and that do not.
TEST(ChunkEntriesTest, ReadsTheChunksThatTheLastSegmentAsksFor) {
  ThreadPool pool(2);
  for (const DType element : {DType::kFloat32, DType::kBfloat16}) {
    for (const int32_t kept : {20, 4}) {
      for (const int32_t read : {1, 3}) {
        SCOPED_TRACE(::testing::Message() << Name(element) << " " << read << " of " << kept);
        ChunkWorld world(element, kept, read);
        int64_t before = 0;
        for (const int32_t length : {64, 64, 40, 64, 64, 1, 64, 64, 64, 30, 64, 64, 64, 64, 64}) {
          const int64_t start = world.position, leaving = world.left;
          std::vector<ChunkWorld::Reading> want;
          for (int32_t done = 0; done < length;) {
            const int32_t rows = done == 0 && length == 40 ? 11 : length - done;
            const BatchBuilder builder = world.Segment(rows, done == 0 ? -1 : start);
            for (int64_t h = 0; done == 0 && h < kKvHeads; ++h) {
              want.push_back(world.Begin(h, before, leaving));
            }
            const absl::Status status = ChunkEntriesCpu(world.Args(builder.Batch()), pool);
            ASSERT_TRUE(status.ok()) << status;
            for (int64_t h = 0; h < kKvHeads; ++h) {
              SCOPED_TRACE(::testing::Message() << "head " << h << " at " << world.position);
              world.ExpectReads(h, want[h]);
            }
            world.AddQueries(builder.Batch(), rows, pool);
            world.Write(rows);
            done += rows;
          }
          before = start;
        }
      }
    }
  }
}

// The chunks' own softmaxes, weighted by the scores' softmax, stand beside the window with the
// weight that their keys have in one softmax of all.
TEST(ChunkEntriesTest, AttentionFusesByTheScores) {
  ThreadPool pool(1);
  ChunkWorld world(DType::kFloat32, /*kept=*/8, /*read=*/3);
  int64_t before = 0, leaving = 0;
  while (world.position < 6 * kSegment) {
    before = world.position, leaving = world.left;
    const BatchBuilder builder = world.Segment(kSegment);
    for (int64_t h = 0; h < kKvHeads; ++h) {
      if (world.position > 0) world.Begin(h, before - kSegment, leaving);
    }
    ASSERT_TRUE(ChunkEntriesCpu(world.Args(builder.Batch()), pool).ok());
    world.AddQueries(builder.Batch(), kSegment, pool);
    world.Write(kSegment);
  }
  leaving = world.left;
  const BatchBuilder builder = world.Segment(/*rows=*/1);
  std::vector<ChunkWorld::Reading> readings;
  for (int64_t h = 0; h < kKvHeads; ++h) readings.push_back(world.Begin(h, before, leaving));
  ASSERT_TRUE(ChunkEntriesCpu(world.Args(builder.Batch()), pool).ok());
  const Elements q = world.Queries(1);
  std::vector<float> k(kKvHeads * kDim), v(k.size()), out(kHeads * kDim);
  for (int64_t i = 0; i < kKvHeads * kDim; ++i) {
    k[i] = static_cast<float>(world.At(true, world.position, i / kDim, i % kDim));
    v[i] = static_cast<float>(world.At(false, world.position, i / kDim, i % kDim));
  }
  StreamAttentionArgs args{.batch = builder.Batch(),
                           .shape = world.shape,
                           .element = DType::kFloat32,
                           .num_heads = kHeads,
                           .num_kv_heads = kKvHeads,
                           .head_dim = kDim,
                           .q = q.data(),
                           .k = k.data(),
                           .v = v.data(),
                           .ring_k_offset = 0,
                           .ring_v_offset = world.ring_v,
                           .reads_memory = true,
                           .entry_type = EntryType::kElement,
                           .compressed_dim = kDim,
                           .selected = {.count = world.count.data(),
                                        .row = world.list_row.data(),
                                        .score = nullptr,
                                        .log_gate = world.bias.data(),
                                        .position = nullptr},
                           .entry_k_offset = world.store_k,
                           .entry_v_offset = world.store_v,
                           .out = out.data()};
  args.entries_per_head = true;
  args.fused_weight = world.fused.data();
  args.staged_k = args.staged_v = world.state.data();  // of which no list names a row
  const absl::Status status = StreamAttentionCpu(args, pool);
  ASSERT_TRUE(status.ok()) << status;

  for (int64_t head = 0; head < kHeads; ++head) {
    const int64_t kv = head / kGroup;
    const auto exp_logit = [&](int64_t p) {
      double dot = 0;
      for (int64_t d = 0; d < kDim; ++d) {
        dot += world.Query(world.position, head, d) * world.At(true, p, kv, d);
      }
      return std::exp(dot / std::sqrt(double{kDim}));
    };
    double local = 0, chunks = 0;
    std::vector<double> sum(kDim), mixed(kDim);
    for (int64_t p = world.position - kWindow; p <= world.position; ++p) {
      local += exp_logit(p);
      for (int64_t d = 0; d < kDim; ++d) sum[d] += exp_logit(p) * world.At(false, p, kv, d);
    }
    for (const auto& [chunk, weight] : readings[kv].weight) {
      double own = 0;
      std::vector<double> mean(kDim);
      for (int64_t p = 64 * chunk; p < 64 * chunk + world.Tokens(chunk); ++p) {
        own += exp_logit(p);
        for (int64_t d = 0; d < kDim; ++d) mean[d] += exp_logit(p) * world.At(false, p, kv, d);
      }
      chunks += own;
      for (int64_t d = 0; d < kDim; ++d) mixed[d] += weight * mean[d] / own;
    }
    for (int64_t d = 0; d < kDim; ++d) {
      EXPECT_NEAR(out[head * kDim + d], (sum[d] + chunks * mixed[d]) / (local + chunks), 1e-4)
          << "head " << head;
    }
  }
}

TEST(ChunkEntriesTest, BoundsAreNamed) {
  ChunkWorld world(DType::kFloat32, /*kept=*/4, /*read=*/2);
  const BatchBuilder builder = world.Segment(/*rows=*/1);
  const auto message = [&](const std::function<void(ChunkEntriesArgs&)>& change) {
    ChunkEntriesArgs args = world.Args(builder.Batch());
    change(args);
    return std::string(ValidateChunkEntries(args).message());
  };
  EXPECT_EQ(message([](ChunkEntriesArgs&) {}), "");
  EXPECT_EQ(message([](ChunkEntriesArgs& a) { a.chunks = 5; }), "ChunkEntries: capacity=512");
  EXPECT_EQ(message([](ChunkEntriesArgs& a) { a.read_chunks = 3; }),
            "ChunkEntries: max_selected=128");
  EXPECT_EQ(message([](ChunkEntriesArgs& a) { a.read_chunks = 65; }),
            "ChunkEntries: read_chunks=65");
  EXPECT_EQ(message([](ChunkEntriesArgs& a) { a.store.shape.max_selected = 130; }),
            "ChunkEntries: max_selected=130");
  EXPECT_EQ(message([](ChunkEntriesArgs& a) { a.table.used = -1; }), "ChunkEntries: used=-1");
  EXPECT_EQ(message([](ChunkEntriesArgs& a) { a.fused_weight = nullptr; }),
            "ChunkEntries: fused_weight=null");
}

}  // namespace
}  // namespace rasq
