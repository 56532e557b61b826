#include "train/clusters.h"

#include <algorithm>
#include <limits>

#include "train/retrieval.h"

namespace rasq::train {
namespace {

// As in engine/model.cc.
constexpr int kRounds = 2;
// Differences of entries and centroids that are held at once.
constexpr int64_t kMaxDifferences = int64_t{1} << 27;

// The nearest centroid of each entry, between equals the lower: int64 [segments, kv_heads,
// entries]. As sums of squares, not by products: equal centroids have to be equally far.
Tensor Nearest(const Tensor& rows, const Tensor& centroid) {
  const int64_t segments = rows.size(0), clusters = centroid.size(2);
  const int64_t of_segment = rows.size(1) * rows.size(2) * rows.size(3) * clusters;
  const int64_t block = std::max<int64_t>(1, kMaxDifferences / std::max<int64_t>(1, of_segment));
  Tensor nearest =
      torch::empty({segments, rows.size(1), rows.size(2)}, rows.options().dtype(torch::kInt64));
  for (int64_t begin = 0; begin < segments; begin += block) {
    const int64_t count = std::min(block, segments - begin);
    const Tensor difference =
        rows.narrow(0, begin, count).unsqueeze(3) - centroid.narrow(0, begin, count).unsqueeze(2);
    nearest.narrow(0, begin, count).copy_(difference.square().sum(-1).argmin(-1));
  }
  return nearest;
}

// [..., entries] to float [..., clusters, entries]: who is in it.
Tensor Members(const Tensor& cluster, int64_t clusters) {
  const Tensor number = torch::arange(clusters, cluster.options()).unsqueeze(-1);
  return (cluster.unsqueeze(-2) == number).to(torch::kFloat32);
}

// Of the clusters [..., clusters] by their promise those to read: the `read` highest, between
// equals the lower.
Tensor Choose(const Tensor& promise, int64_t read) {
  const Tensor order = std::get<1>(promise.sort(/*stable=*/true, -1, /*descending=*/true));
  const Tensor best = order.narrow(-1, 0, std::min(read, promise.size(-1)));
  return torch::zeros(promise.sizes(), promise.options().dtype(torch::kBool))
      .scatter_(-1, best, true);
}

}  // namespace

Tensor AssignClusters(const Tensor& key, const Tensor& valid, const ClusterShape& shape) {
  const torch::NoGradGuard no_grad;
  const Tensor rows = key.to(torch::kFloat32).transpose(1, 2).contiguous();
  const Tensor count = valid.sum(1);  // [segments]
  const Tensor number = torch::arange(shape.clusters, count.options());
  const Tensor start = (number * count.unsqueeze(1)).div(shape.clusters, "floor");
  Tensor centroid = rows.gather(
      2, start.view({-1, 1, shape.clusters, 1}).expand({-1, rows.size(1), -1, rows.size(3)}));
  const Tensor there = valid.unsqueeze(1);
  for (int round = 0; round < kRounds; ++round) {
    const Tensor members =
        Members(Nearest(rows, centroid).masked_fill(there.logical_not(), -1), shape.clusters);
    const Tensor size = members.sum(-1, /*keepdim=*/true);
    const Tensor mean = torch::matmul(members, rows) / size.clamp_min(1);
    centroid = torch::where(size > 0, mean, centroid);
  }
  const Tensor clustered = there.logical_and((count > shape.min_entries).view({-1, 1, 1}));
  return Nearest(rows, centroid).masked_fill(clustered.logical_not(), -1);
}

Tensor ClusteredAttention(const Tensor& query, const Tensor& key, const Tensor& value,
                          const ClusteredEntries& entries, double scale) {
  const int64_t segments = query.size(0), rows = query.size(1), width = query.size(3);
  const int64_t keys = key.size(1), kv_heads = key.size(2), head_dim = value.size(3);
  const int64_t group = query.size(2) / kv_heads, num_entries = entries.cluster.size(2);
  const int64_t clusters = entries.shape.clusters;
  const auto heads_first = [](const Tensor& x) { return x.to(torch::kFloat32).transpose(1, 2); };
  // A group's heads as rows of their kv head: [segments, kv_heads, group * rows, width].
  const Tensor grouped = heads_first(query).reshape({segments, kv_heads, group * rows, width});
  const Tensor all_keys = heads_first(key), all_values = heads_first(value);

  const Tensor members = Members(entries.cluster, clusters);
  const Tensor size = members.sum(-1);  // [segments, kv_heads, clusters]
  const Tensor share = members / size.clamp_min(1).unsqueeze(-1);
  const auto means = [&](const Tensor& x) {
    return torch::matmul(share, x.narrow(2, entries.first, num_entries));
  };
  const Tensor mean_key = means(all_keys), log_size = size.clamp_min(1).log();
  const Tensor is_empty = (size == 0).unsqueeze(2);

  Tensor unread;  // bool [segments, kv_heads, group * rows, keys + clusters]
  {
    const torch::NoGradGuard no_grad;
    const auto plain = [&](const Tensor& x) { return x.narrow(-1, 0, head_dim); };
    const Tensor promise = torch::matmul(plain(grouped), plain(mean_key).transpose(2, 3)) * scale +
                           log_size.unsqueeze(2);
    const Tensor chosen = Choose(
        promise.masked_fill(is_empty, -std::numeric_limits<float>::infinity()), entries.shape.read);
    // What is in no cluster is never unread: its key says whether it is there.
    const Tensor passed = torch::constant_pad_nd(chosen.logical_not(), {0, 1}, 0);
    const Tensor cluster = entries.cluster.masked_fill(entries.cluster < 0, clusters)
                               .unsqueeze(2)
                               .expand({-1, -1, group * rows, -1});
    const auto options = query.options().dtype(torch::kInt64).requires_grad(false);
    const Tensor ahead = torch::arange(keys, options).unsqueeze(0) >
                         torch::arange(rows, options).unsqueeze(1) + (keys - rows);
    unread = torch::cat({ahead.repeat({group, 1}).expand({segments, kv_heads, -1, -1}),
                         chosen.logical_or(is_empty)},
                        -1);
    unread.narrow(-1, entries.first, num_entries).copy_(passed.gather(-1, cluster));
  }
  const Tensor logit =
      torch::matmul(grouped, torch::cat({all_keys, mean_key}, 2).transpose(2, 3)) * scale +
      torch::constant_pad_nd(log_size, {keys, 0}).unsqueeze(2);
  const Tensor weight = logit.masked_fill(unread, kDead).softmax(-1);
  return torch::matmul(weight, torch::cat({all_values, means(all_values)}, 2))
      .view({segments, kv_heads * group, rows, head_dim})
      .transpose(1, 2)
      .to(query.scalar_type());
}

}  // namespace rasq::train
