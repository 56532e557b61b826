#include "train/summaries.h"

#include <cmath>
#include <vector>

namespace rasq::train {
namespace {

// Rows that one product sums up: those of a tile are of one X. A tile more for each X is the price,
// so it is a fraction of a segment.
constexpr int64_t kTileRows = 16;

}  // namespace

LostEntries::LostEntries(const Tensor& log_gate, const Tensor& alive, const RetrievalShape& shape,
                         double decay)
    : streams_(alive.size(0)), segments_(alive.size(1)) {
  const int64_t tokens = alive.size(2), all = streams_ * tokens;
  const int64_t num_groups = streams_ * segments_;
  const auto ints = log_gate.options().dtype(torch::kInt64).requires_grad(false);
  Tensor lost_at;  // [streams, tokens]: the first segment that finds it lost, or behind the last
  {
    const torch::NoGradGuard no_grad;
    const Tensor lost =
        Candidates(tokens, shape, log_gate.device()).logical_and(alive.logical_not());
    lost_at = segments_ - lost.sum(1);
    const Tensor stream = torch::arange(streams_, ints).unsqueeze(1) * segments_;
    group_ = (stream + lost_at).masked_fill(lost_at == segments_, num_groups).flatten();

    // Tokens group by group, each group from the beginning of a tile.
    const Tensor order = group_.argsort();
    const Tensor sorted = group_.index_select(0, order);
    const Tensor one = torch::ones({all}, ints);
    const Tensor count = torch::zeros({num_groups + 1}, ints).index_add_(0, group_, one);
    const Tensor tiles = (count + (kTileRows - 1)).div(kTileRows, "floor");
    const Tensor tile_ends = tiles.cumsum(0);
    const Tensor rank =
        torch::arange(all, ints) - (count.cumsum(0) - count).index_select(0, sorted);
    const Tensor first = (tile_ends - tiles) * kTileRows;
    row_ = torch::empty({all}, ints).index_copy_(0, order, first.index_select(0, sorted) + rank);
    // As many as there could be, so that none has to be counted on the host.
    const Tensor tile = torch::arange(all / kTileRows + num_groups + 1, ints);
    tile_group_ = torch::searchsorted(tile_ends, tile, /*out_int32=*/false, /*right=*/true)
                      .clamp_max(num_groups);
  }
  const Tensor gate = torch::zeros({num_groups + 1}, log_gate.options())
                          .index_add(0, group_, log_gate.exp().flatten())
                          .narrow(0, 0, num_groups)
                          .view({streams_, segments_});
  const Tensor loses = gate.detach() > 0;
  const Tensor losses = loses.cumsum(1);  // of segments up to this one that lost something
  const Tensor later = (losses.unsqueeze(2) - losses.unsqueeze(1)).clamp_min(0);
  const Tensor left = torch::pow(decay, later.to(torch::kFloat32)).tril() *
                      loses.unsqueeze(1).to(torch::kFloat32);  // [streams, segments, lost at]
  share_ = left * torch::where(losses == 1, 1.0, 1 - decay).unsqueeze(1).to(torch::kFloat32);
  is_empty_ = losses == 0;
  log_count_ = torch::matmul(left, gate.unsqueeze(2)).squeeze(2).masked_fill(is_empty_, 1).log();
}

Tensor LostEntries::Carry(const Tensor& logit, const Tensor& rows) const {
  const int64_t kv_heads = logit.size(2), slots = logit.size(3), width = rows.size(3);
  const int64_t num_groups = streams_ * segments_, num_tiles = tile_group_.size(0);
  const Tensor flat = logit.reshape({-1, kv_heads * slots});
  Tensor most;  // of each group
  {
    const torch::NoGradGuard no_grad;
    most = torch::scatter_reduce(torch::zeros({num_groups + 1, flat.size(1)}, flat.options()), 0,
                                 group_.unsqueeze(1).expand_as(flat), flat.detach(), "amax",
                                 /*include_self=*/false);
  }
  const Tensor weight = (flat - most.index_select(0, group_)).exp();
  // Behind each row a one, whose sum is the softmax's denominator.
  const Tensor wide = torch::constant_pad_nd(rows.to(torch::kFloat32), {0, 1}, 1);
  const auto by_tile = [&](const Tensor& x, int64_t columns) {
    return torch::zeros({num_tiles * kTileRows, kv_heads * columns}, flat.options())
        .index_copy_(0, row_, x.reshape({-1, kv_heads * columns}))
        .view({num_tiles, kTileRows, kv_heads, columns})
        .permute({0, 2, 1, 3});
  };
  const Tensor of_tiles = torch::matmul(by_tile(weight, slots).transpose(2, 3),
                                        by_tile(wide, width + 1));  // [tiles, kv_heads, slots, ...]
  const Tensor sums = torch::zeros({num_groups + 1, kv_heads * slots * (width + 1)}, flat.options())
                          .index_add_(0, tile_group_, of_tiles.flatten(1))
                          .narrow(0, 0, num_groups)
                          .view({streams_, segments_, kv_heads, slots, width + 1});
  const Tensor total = sums.narrow(-1, width, 1);
  const Tensor mean = sums.narrow(-1, 0, width) / total.masked_fill(total == 0, 1);
  return torch::matmul(share_, mean.flatten(2))
      .view({streams_, segments_, kv_heads, slots, width})
      .transpose(2, 3);
}

Summaries Summarise(const LostEntries& lost, const SummaryInput& input) {
  const int64_t kv_heads = input.query.size(0), slots = input.query.size(1);
  const double scale = 1 / std::sqrt(static_cast<double>(input.query.size(2)));
  // <u, P K> = <P^T u, K>. One product with the heads' queries on a diagonal, as round trips are.
  const Tensor query =
      torch::block_diag((torch::matmul(input.query, input.key_down) * scale).unbind(0));
  const torch::ScalarType type = input.plain_key.scalar_type();
  const Tensor score = torch::linear(input.plain_key.flatten(2), query.to(type))
                           .to(torch::kFloat32)
                           .view({input.key.size(0), input.key.size(1), kv_heads, slots});
  const Tensor logit = score + input.log_gate.unsqueeze(-1).unsqueeze(-1);
  const auto parts =
      lost.Carry(logit, torch::cat({input.key, input.value}, -1)).to(type).chunk(2, -1);
  return {.key = parts[0],
          .value = parts[1],
          .log_count = lost.log_count(),
          .is_empty = lost.is_empty()};
}

}  // namespace rasq::train
