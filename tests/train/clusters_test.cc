#include "train/clusters.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "train/segment_attention.h"

namespace rasq::train {
namespace {

// Segments of one kv head whose entries are numbers; -1 pads them to the longest.
Tensor Assigned(const std::vector<std::vector<float>>& segments, const ClusterShape& shape) {
  size_t most = 0;
  for (const auto& entries : segments) most = std::max(most, entries.size());
  const auto count = static_cast<int64_t>(segments.size());
  Tensor key = torch::full({count, static_cast<int64_t>(most), 1, 1}, -1.0f);
  Tensor valid = torch::zeros({count, static_cast<int64_t>(most)}, torch::kBool);
  for (int64_t i = 0; i < count; ++i) {
    for (size_t j = 0; j < segments[i].size(); ++j) {
      key[i][static_cast<int64_t>(j)] = segments[i][j];
      valid[i][static_cast<int64_t>(j)] = true;
    }
  }
  return AssignClusters(key, valid, shape).squeeze(1);
}

TEST(ClustersTest, AssignmentByHand) {
  const ClusterShape two{.clusters = 2, .read = 1, .min_entries = 2};
  // Centroids begin at the entries 0 and 2. In the second segment 5 is as far from 0 as from 10:
  // had it gone to the upper cluster, it would have stayed there. The third has too few entries.
  EXPECT_TRUE(torch::equal(
      Assigned({{0, 4, 10, 6}, {0, 5, 10, 10}, {0, 9}}, two),
      torch::tensor({0, 0, 1, 1, 0, 0, 1, 1, -1, -1, -1, -1}, torch::kInt64).view({3, 4})));
  // Centroids 0 and 1, then 0 and 13/4, then 1/2 and 4: one round would leave 2 in the upper
  // cluster, and a third take 3 from it.
  EXPECT_TRUE(torch::equal(Assigned({{0, 2, 1, 3, 7}}, two),
                           torch::tensor({0, 0, 0, 1, 1}, torch::kInt64).view({1, 5})));
  // More clusters than entries: two begin at each, of which the lower ones get it.
  EXPECT_TRUE(torch::equal(Assigned({{3, 7}}, {.clusters = 4, .read = 1, .min_entries = 1}),
                           torch::tensor({0, 2}, torch::kInt64).view({1, 2})));
}

// Two segments of one kv head group: 3 keys before the entries, 7 entries, 4 rows of their own.
struct World {
  static constexpr int64_t kFirst = 3, kEntries = 7, kRows = 4, kHeadDim = 8;
  static constexpr int64_t kKvHeads = 2, kHeads = 4, kKeys = kFirst + kEntries + kRows;
  static constexpr double kScale = 0.35;

  Tensor query = torch::randn({2, kRows, kHeads, kHeadDim + 2});
  Tensor key = torch::randn({2, kKeys, kKvHeads, kHeadDim + 2});
  Tensor value = torch::randn({2, kKeys, kKvHeads, kHeadDim});
  Tensor cluster = torch::randint(4, {2, kKvHeads, kEntries}, torch::kInt64);

  Tensor Attend(int64_t read) const {
    return ClusteredAttention(query, key, value,
                              {.first = kFirst,
                               .cluster = cluster,
                               .shape = {.clusters = 4, .read = read, .min_entries = 0}},
                              kScale);
  }
};

TEST(ClustersTest, ReadingAllOrHavingNoneIsPlainAttention) {
  torch::manual_seed(1);
  World world;
  const Tensor plain = CausalAttention(world.query, world.key, world.value, World::kScale);
  EXPECT_TRUE(torch::allclose(world.Attend(4), plain, 1e-4, 1e-5));
  EXPECT_GT((world.Attend(1) - plain).abs().max().item<double>(), 1e-2);
  world.cluster.fill_(-1);
  EXPECT_TRUE(torch::allclose(world.Attend(1), plain, 1e-4, 1e-5));
}

// One row and head at a time, from the definition.
TEST(ClustersTest, AgreesWithTheDefinition) {
  torch::manual_seed(2);
  const World world;
  constexpr int64_t kRead = 2;
  const Tensor got = world.Attend(kRead);
  const auto wide = [](const Tensor& x) { return x.to(torch::kFloat64); };
  for (int64_t segment = 0; segment < 2; ++segment) {
    for (int64_t head = 0; head < World::kHeads; ++head) {
      const int64_t kv_head = head / 2;
      const Tensor keys = wide(world.key[segment].select(1, kv_head));
      const Tensor values = wide(world.value[segment].select(1, kv_head));
      for (int64_t row = 0; row < World::kRows; ++row) {
        const Tensor query = wide(world.query[segment][row][head]);
        Tensor sum = torch::zeros({World::kHeadDim}, torch::kFloat64);
        double denominator = 0;
        const auto read = [&](const Tensor& key, const Tensor& value, double extra) {
          const double weight = std::exp(query.dot(key).item<double>() * World::kScale + extra);
          sum += weight * value;
          denominator += weight;
        };
        std::vector<std::vector<int64_t>> members(4);
        for (int64_t j = 0; j < World::kEntries; ++j) {
          members[world.cluster[segment][kv_head][j].item<int64_t>()].push_back(World::kFirst + j);
        }
        std::vector<std::pair<double, int64_t>> promises;
        const auto mean = [](const Tensor& rows, const std::vector<int64_t>& own) {
          return rows.index_select(0, torch::tensor(own)).mean(0);
        };
        for (int64_t c = 0; c < 4; ++c) {
          if (members[c].empty()) continue;
          const Tensor centroid = mean(keys, members[c]).narrow(0, 0, World::kHeadDim);
          const double promise =
              query.narrow(0, 0, World::kHeadDim).dot(centroid).item<double>() * World::kScale +
              std::log(static_cast<double>(members[c].size()));
          promises.emplace_back(-promise, c);
        }
        std::sort(promises.begin(), promises.end());
        for (size_t rank = 0; rank < promises.size(); ++rank) {
          const std::vector<int64_t>& own = members[promises[rank].second];
          if (rank < kRead) {
            for (const int64_t i : own) read(keys[i], values[i], 0);
          } else {
            read(mean(keys, own), mean(values, own), std::log(static_cast<double>(own.size())));
          }
        }
        for (int64_t i = 0; i < World::kFirst; ++i) read(keys[i], values[i], 0);
        const int64_t own = World::kFirst + World::kEntries;
        for (int64_t i = own; i <= own + row; ++i) read(keys[i], values[i], 0);
        EXPECT_TRUE(torch::allclose(wide(got[segment][row][head]), sum / denominator, 1e-4, 1e-5))
            << segment << " " << head << " " << row;
      }
    }
  }
}

// Through the logits and the means, along each gradient's own direction. The steps are too short
// for a query to choose other clusters.
TEST(ClustersTest, GradientIsTheSlope) {
  torch::manual_seed(3);
  World world;
  const Tensor weight = torch::randn({2, World::kRows, World::kHeads, World::kHeadDim});
  const auto loss = [&] { return (world.Attend(2) * weight).to(torch::kFloat64).sum(); };
  std::vector<std::pair<const char*, Tensor*>> inputs = {
      {"query", &world.query}, {"key", &world.key}, {"value", &world.value}};
  for (auto& [name, input] : inputs) input->requires_grad_();
  loss().backward();
  const torch::NoGradGuard no_grad;
  for (auto& [name, input] : inputs) {
    constexpr double kStep = 1e-3;
    const double norm = input->grad().norm().item<double>();
    const Tensor step = input->grad() * (kStep / norm);
    input->add_(step);
    const double ahead = loss().item<double>();
    input->sub_(step, 2);
    const double behind = loss().item<double>();
    input->add_(step);
    EXPECT_NEAR((ahead - behind) / (2 * kStep), norm, 0.01 * norm) << name;
  }
}

}  // namespace
}  // namespace rasq::train
