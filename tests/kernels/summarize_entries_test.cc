#include "kernels/summarize_entries.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/summary_reference.h"
#include "tests/support/summary_world.h"

namespace rasq {
namespace {

std::unique_ptr<Ops> CpuOf(DType type) {
  return *OpenOps({.device = "cpu", .threads = 2, .dtype = Name(type)});
}

// One head of one dimension, one slot, a buffer of two. The window is of 40 tokens, sinks are 4.
SummaryCase ByHand() {
  // Of positions 4..9.
  static constexpr double kGates[] = {0.5, 0.25, 0.75, 0.125, 0.9, 0.8};
  static constexpr float kKeys[] = {1, 0, 2, 3, -1, -1}, kValues[] = {10, 20, 50, 40, -1, -1};
  return {.capacity = 2,
          .kv_heads = 1,
          .compressed = 1,
          .summaries = 1,
          .decay = 0.5f,
          .log_gate =
              [](int, int64_t position) {
                return position < 4 ? 0 : static_cast<float>(std::log(kGates[position - 4]));
              },
          .vector =
              [](int, int64_t position, bool key, int64_t) {
                const int64_t i = std::max<int64_t>(0, position - 4);
                return std::vector<float>{key ? kKeys[i] : kValues[i]};
              },
          .query = {std::log(2.0f)}};
}

TEST(SummarizeEntriesTest, ByHand) {
  const std::unique_ptr<Ops> ops = CpuOf(DType::kFloat32);
  const SummaryCase c = ByHand();
  SummaryWorld world(*ops, c, /*num_streams=*/1);
  // Segments begin at 0, 16, 32, 46, 47, 48, 50.
  const SummaryWorld::Outcome got =
      world.Run({{.stream = 0, .segment_rows = {16, 16, 14, 1, 1, 2, 1}}});
  // At 46 tokens 4 and 5 fill the buffer. At 47 token 6, of 0.75, replaces 5, of 0.25: the slot
  // becomes that. At 48 token 7 is refused: half of the slot goes to it. At 50 tokens 8 and 9
  // replace 4 and 6, of weights 0.5 * 2^1 and 0.75 * 2^2: means 1.75 and 40.
  EXPECT_EQ(got.lost_end, (std::vector<int32_t>{0, 0, 0, 0, 1, 2, 4}));
  EXPECT_EQ(got.keep, (std::vector<float>{1, 1, 1, 1, 0, 0.5f, 0.5f}));
  // Rows 2 and on are staged: of positions 0, 1, ..., so that 5 is row 7.
  EXPECT_EQ(std::vector<int32_t>(got.lost_row.begin(), got.lost_row.begin() + 4),
            (std::vector<int32_t>{7, 9, 6, 8}));
  const std::vector<float> mass = {0, 0, 0, 0, 0.25f, 0.25f, 1.375f};
  const std::vector<float> key = {0, 0, 0, 0, 0, 1.5f, 1.625f};
  const std::vector<float> value = {0, 0, 0, 0, 20, 30, 35};
  for (int s = 0; s < 7; ++s) {
    SCOPED_TRACE(s);
    EXPECT_FLOAT_EQ(got.mass[s], mass[s]);
    const int64_t row = got.batch.num_staged + s;
    EXPECT_FLOAT_EQ(c.format().Load(got.staged_k.data(), row, 0, 0), key[s]);
    EXPECT_FLOAT_EQ(c.format().Load(got.staged_v.data(), row, 0, 0), value[s]);
  }
  EXPECT_FLOAT_EQ(world.Mass(0), 1.375f);
  EXPECT_FLOAT_EQ(world.Slots(0, true)[0], 1.625f);
  EXPECT_FLOAT_EQ(world.Slots(0, false)[0], 35);
}

std::vector<std::vector<int32_t>> Streams() {
  return {RandomSegments(1, 40), RandomSegments(2, 25), RandomSegments(3, 60),
          std::vector<int32_t>(30, 16)};
}

SummaryCase Usual(DType type, EntryType entry_type) {
  return {.type = type,
          .entry_type = entry_type,
          .capacity = 23,
          .kv_heads = 3,
          .compressed = 13,
          .summaries = 4,
          .decay = 0.9f};
}

class SummarizeEntriesFormatTest : public ::testing::TestWithParam<std::pair<DType, EntryType>> {};
INSTANTIATE_TEST_SUITE_P(All, SummarizeEntriesFormatTest,
                         ::testing::Values(std::pair(DType::kFloat32, EntryType::kElement),
                                           std::pair(DType::kBfloat16, EntryType::kElement),
                                           std::pair(DType::kFloat32, EntryType::kInt8),
                                           std::pair(DType::kBfloat16, EntryType::kInt8)),
                         [](const auto& test) {
                           return std::string(Name(test.param.first)) +
                                  (test.param.second == EntryType::kInt8 ? "_int8" : "");
                         });

TEST_P(SummarizeEntriesFormatTest, MatchesDouble) {
  const std::unique_ptr<Ops> ops = CpuOf(GetParam().first);
  const SummaryCase c = Usual(GetParam().first, GetParam().second);
  ExpectDouble(*ops, c, /*padded=*/false, Streams(), /*seed=*/1);
}

// A stream's state is the same to the last bit however it is cut into steps.
TEST_P(SummarizeEntriesFormatTest, CutsDoNotMatter) {
  const std::unique_ptr<Ops> ops = CpuOf(GetParam().first);
  const SummaryCase c = Usual(GetParam().first, GetParam().second);
  const std::vector<int32_t> lengths = RandomSegments(5, 40);
  std::vector<std::vector<std::byte>> slots;
  std::vector<float> masses;
  for (const int32_t rows : {1000, 1, 7, 100}) {
    SummaryWorld world(*ops, c, /*num_streams=*/1);
    for (const SummaryPart& part : CutSegments(0, lengths, [&] { return rows; })) {
      world.Run({part});
    }
    masses.push_back(world.Mass(0));
    std::vector<std::byte>& all = slots.emplace_back();
    for (const bool key : {true, false}) {
      const std::vector<float> numbers = world.Slots(0, key);
      const auto* bytes = reinterpret_cast<const std::byte*>(numbers.data());
      all.insert(all.end(), bytes, bytes + numbers.size() * sizeof(float));
      const std::vector<std::byte> rows_of_slots = world.SlotRows(0, key);
      const auto first = rows_of_slots.begin() + c.capacity * c.format().row_bytes();
      all.insert(all.end(), first, first + c.summaries * c.format().row_bytes());
    }
  }
  EXPECT_GT(masses[0], 0);
  for (size_t i = 1; i < slots.size(); ++i) {
    EXPECT_EQ(masses[i], masses[0]) << i;
    EXPECT_EQ(slots[i], slots[0]) << i;
  }
}

// A slot that remembers nothing, or nearly everything; one slot and as many as there may be; a
// buffer of one entry.
TEST(SummarizeEntriesTest, Extremes) {
  const std::unique_ptr<Ops> ops = CpuOf(DType::kFloat32);
  for (const float decay : {0.0f, 0.999f}) {
    SummaryCase c = Usual(DType::kFloat32, EntryType::kElement);
    c.decay = decay;
    c.summaries = decay == 0 ? 1 : 32;
    c.capacity = decay == 0 ? 1 : 100;
    ExpectDouble(*ops, c, /*padded=*/false, Streams(), /*seed=*/2);
  }
}

TEST(SummarizeEntriesTest, LongSegments) {
  const std::unique_ptr<Ops> ops = CpuOf(DType::kFloat32);
  SummaryCase c = Usual(DType::kFloat32, EntryType::kElement);
  c.segment = 300;
  ExpectDouble(*ops, c, /*padded=*/false,
               {RandomSegments(1, 20, c.segment), RandomSegments(2, 30, c.segment)}, /*seed=*/3);
}

// With gates that fall and fall no candidate finds a place once the buffer is full.
TEST(SummarizeEntriesTest, RefusedCandidates) {
  const std::unique_ptr<Ops> ops = CpuOf(DType::kFloat32);
  SummaryCase c = Usual(DType::kFloat32, EntryType::kElement);
  c.log_gate = [](int, int64_t position) { return -0.01f * static_cast<float>(position); };
  ExpectDouble(*ops, c, /*padded=*/false, Streams(), /*seed=*/3);
  SummaryWorld world(*ops, c, /*num_streams=*/1);
  // The first segment that loses begins at 80: positions 27..39, all staged.
  const SummaryWorld::Outcome got =
      world.Run({{.stream = 0, .segment_rows = std::vector<int32_t>(6, 16)}});
  EXPECT_EQ(got.lost_end, (std::vector<int32_t>{0, 0, 0, 0, 0, 13}));
  for (int i = 0; i < 13; ++i) EXPECT_EQ(got.lost_row[i], c.capacity + 27 + i);
}

// Nothing changes where nothing is lost, or nothing that weighs anything.
TEST(SummarizeEntriesTest, WhatWeighsNothingChangesNothing) {
  const std::unique_ptr<Ops> ops = CpuOf(DType::kFloat32);
  SummaryCase c = Usual(DType::kFloat32, EntryType::kElement);
  // From 60 on gates are 0 in float32: what is lost then has no weight, and is no candidate that
  // could replace another.
  c.log_gate = [](int, int64_t position) { return position < 60 ? -1.0f : -200.0f; };
  SummaryWorld world(*ops, c, /*num_streams=*/1);
  world.Run({{.stream = 0, .segment_rows = std::vector<int32_t>(7, 16)}});  // leaving: to 56
  const std::vector<float> key = world.Slots(0, true), value = world.Slots(0, false);
  EXPECT_GT(world.Mass(0), 0);
  // Of 56..71 the first four weigh something; 72..75 do not.
  world.Run({{.stream = 0, .segment_rows = {4, 16}}});
  const float mass = world.Mass(0);
  const std::vector<float> after = world.Slots(0, true);
  EXPECT_NE(after, key);
  const SummaryWorld::Outcome got = world.Run({{.stream = 0, .segment_rows = {16, 16}}});
  EXPECT_EQ(got.lost_end, (std::vector<int32_t>{16, 32}));
  EXPECT_EQ(got.keep, (std::vector<float>{1, 1}));
  EXPECT_EQ(world.Mass(0), mass);
  EXPECT_EQ(world.Slots(0, true), after);
  EXPECT_NE(world.Slots(0, false), value);
}

// Arrays that are as small as the arguments allow, for calls that must fail.
struct Arguments {
  StreamShape shape = Usual(DType::kFloat32, EntryType::kElement).shape();
  std::vector<std::byte> state = std::vector<std::byte>(4096);
  BatchBuilder builder{shape};
  std::vector<int32_t> ints = std::vector<int32_t>(64);
  std::vector<int64_t> positions = std::vector<int64_t>(64);
  std::vector<float> floats = std::vector<float>(64);

  Arguments() { builder.Add({.first_position = 46, .segment_rows = {2}}, state.data()); }
  LostEntries Lost() {
    return {.row = ints.data(), .end = ints.data(), .keep = floats.data(), .mass = floats.data()};
  }
  LoseEntriesArgs Lose() {
    return {.batch = builder.Batch(),
            .shape = shape,
            .decay = 0.5f,
            .mass_offset = 0,
            .died = ints.data(),
            .row_position = positions.data(),
            .row_log_gate = floats.data(),
            .found = ints.data(),
            .lost = Lost()};
  }
  SummarizeEntriesArgs Summarize() {
    return {.batch = builder.Batch(),
            .shape = shape,
            .element = DType::kFloat32,
            .entry_type = EntryType::kElement,
            .num_kv_heads = 1,
            .compressed_dim = 1,
            .num_summaries = 1,
            .query = floats.data(),
            .row_log_gate = floats.data(),
            .lost = Lost(),
            .summary_k_offset = 0,
            .summary_v_offset = 0,
            .entry_k_offset = 0,
            .entry_v_offset = 0,
            .staged_k = floats.data(),
            .staged_v = floats.data()};
  }
  ListSummariesArgs List() {
    const SelectedEntries selection{.count = ints.data(),
                                    .row = ints.data(),
                                    .score = floats.data(),
                                    .log_gate = floats.data(),
                                    .position = nullptr};
    return {.batch = builder.Batch(),
            .shape = shape,
            .num_summaries = 1,
            .mass_offset = 0,
            .mass = floats.data(),
            .selected = selection,
            .read = selection};
  }
};

TEST(SummarizeEntriesTest, ArgumentErrors) {
  ThreadPool pool(1);
  const auto lose = [&](auto change) {
    Arguments of;
    LoseEntriesArgs args = of.Lose();
    change(args);
    return std::string(LoseEntriesCpu(args, pool).message());
  };
  using Lose = LoseEntriesArgs;
  EXPECT_EQ(lose([](Lose& a) { a.decay = 1; }), "LoseEntries: decay=1");
  EXPECT_EQ(lose([](Lose& a) { a.decay = NAN; }), "LoseEntries: decay=nan");
  EXPECT_EQ(lose([](Lose& a) { a.shape.capacity = 0; }), "LoseEntries: capacity=0");
  EXPECT_EQ(lose([](Lose& a) { a.found = nullptr; }), "LoseEntries: found=null");
  EXPECT_EQ(lose([](Lose& a) { a.lost.keep = nullptr; }), "LoseEntries: lost.keep=null");
  const auto summarize = [&](auto change) {
    Arguments of;
    SummarizeEntriesArgs args = of.Summarize();
    change(args);
    return std::string(SummarizeEntriesCpu(args, pool).message());
  };
  using Summarize = SummarizeEntriesArgs;
  EXPECT_EQ(summarize([](Summarize& a) { a.num_summaries = 0; }),
            "SummarizeEntries: num_summaries=0");
  EXPECT_EQ(summarize([](Summarize& a) { a.query = nullptr; }), "SummarizeEntries: query=null");
  EXPECT_EQ(summarize([](Summarize& a) { a.staged_v = nullptr; }),
            "SummarizeEntries: staged_v=null");
  EXPECT_EQ(summarize([](Summarize& a) { a.lost.end[0] = 7; }),
            "SummarizeEntries: segment 0: lost.end=7");
  EXPECT_EQ(summarize([](Summarize& a) { a.lost.end[0] = a.lost.row[1] = 2; }), "");
  EXPECT_EQ(summarize([](Summarize& a) { a.lost.end[0] = 2, a.lost.row[1] = 99; }),
            "SummarizeEntries: lost.row[1]=99");
  const auto list = [&](auto change) {
    Arguments of;
    ListSummariesArgs args = of.List();
    change(args);
    return std::string(ListSummariesCpu(args, pool).message());
  };
  using List = ListSummariesArgs;
  EXPECT_EQ(list([](List& a) { a.num_summaries = -1; }), "ListSummaries: num_summaries=-1");
  EXPECT_EQ(list([](List& a) { a.mass = nullptr; }), "ListSummaries: mass=null");
  EXPECT_EQ(list([](List& a) { a.read.row = nullptr; }), "ListSummaries: read.row=null");
  EXPECT_EQ(list([](List& a) { a.selected.count[0] = 9; }), "ListSummaries: selected.count[0]=9");
}

}  // namespace
}  // namespace rasq
