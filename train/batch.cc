#include "train/batch.h"

#include "kernels/base/status.h"

namespace rasq::train {

Batch MakeBatch(absl::Span<const TrainingStream> streams, const torch::Device& device) {
  RASQ_CHECK(!streams.empty());
  const auto num_streams = static_cast<int64_t>(streams.size());
  const auto num_tokens = static_cast<int64_t>(streams.front().tokens.size());
  Batch batch;
  std::vector<int64_t> stream_of, segment_of, evidence_row, evidence_position;
  Tensor tokens = torch::empty({num_streams, num_tokens}, torch::kInt64);
  Tensor weight = torch::empty({num_streams, num_tokens}, torch::kFloat32);
  Tensor answer = torch::full({num_streams, num_tokens}, -1, torch::kInt64);
  for (int64_t i = 0; i < num_streams; ++i) {
    const TrainingStream& stream = streams[i];
    RASQ_CHECK(static_cast<int64_t>(stream.tokens.size()) == num_tokens);
    RASQ_CHECK(stream.evidence.size() == stream.answers.size());
    std::copy(stream.tokens.begin(), stream.tokens.end(),
              tokens.data_ptr<int64_t>() + i * num_tokens);
    std::copy(stream.weights.begin(), stream.weights.end(),
              weight.data_ptr<float>() + i * num_tokens);
    for (size_t a = 0; a < stream.answers.size(); ++a) {
      const auto row = static_cast<int64_t>(stream_of.size());
      stream_of.push_back(i);
      segment_of.push_back(stream.evidence[a].segment);
      for (const int32_t position : stream.evidence[a].positions) {
        evidence_row.push_back(row);
        evidence_position.push_back(position);
      }
      // A token is predicted at the place before its own.
      for (int32_t t = stream.answers[a].begin; t < stream.answers[a].end; ++t) {
        answer.data_ptr<int64_t>()[i * num_tokens + t - 1] = row;
      }
      batch.task.push_back(stream.answers[a].task);
    }
  }
  const auto place = [&](const std::vector<int64_t>& values) {
    return torch::tensor(values, torch::kInt64).to(device);
  };
  batch.tokens = tokens.to(device);
  // What stands at t predicts t + 1.
  const auto shift = [&](const Tensor& x) {
    return torch::constant_pad_nd(x.to(device).narrow(1, 1, num_tokens - 1), {0, 1}, 0);
  };
  batch.target = shift(batch.tokens);
  batch.weight = shift(weight);
  batch.stream = place(stream_of);
  batch.segment = place(segment_of);
  batch.answer = answer.to(device);
  batch.evidence = torch::zeros({batch.num_rows(), num_tokens},
                                torch::TensorOptions(device).dtype(torch::kBool));
  batch.evidence.index_put_({place(evidence_row), place(evidence_position)}, true);
  return batch;
}

Tensor MeanOverAnswers(const Batch& batch, const Tensor& values) {
  const Tensor here = batch.answer >= 0;
  const Tensor row = batch.answer.masked_select(here);
  const Tensor zero = torch::zeros({batch.num_rows()}, values.options());
  const Tensor sum = zero.index_add(0, row, values.masked_select(here));
  const Tensor count = zero.index_add(0, row, torch::ones_like(row).to(values.scalar_type()));
  return sum / count.clamp_min(1);
}

}  // namespace rasq::train
