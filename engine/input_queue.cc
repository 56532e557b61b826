#include "engine/input_queue.h"

#include <algorithm>
#include <utility>

#include "kernels/base/status.h"

namespace rasq {

void InputQueue::Push(std::shared_ptr<const Input> input) {
  if (input->size() == 0) return;
  size_ += input->size();
  runs_.push_back({.input = std::move(input), .next = 0});
}

std::vector<InputToken> InputQueue::Peek(int64_t count) const {
  std::vector<InputToken> tokens;
  tokens.reserve(std::min(count, size_));
  for (const Run& run : runs_) {
    const Input& input = *run.input;
    for (int64_t i = run.next; i < input.size(); ++i) {
      if (static_cast<int64_t>(tokens.size()) == count) return tokens;
      std::shared_ptr<const float> embedding;
      if (!input.embeddings.empty()) {
        embedding = {run.input, input.embeddings.data() + i * hidden_};
      }
      tokens.push_back({.id = input.ids[i],
                        .starts_segment = i == input.segment_break,
                        .pinned = input.pinned,
                        .embedding = std::move(embedding)});
    }
  }
  return tokens;
}

std::vector<std::shared_ptr<const Input>> InputQueue::Rest() const {
  std::vector<std::shared_ptr<const Input>> rest;
  for (const Run& run : runs_) {
    const Input& input = *run.input;
    if (run.next == 0) {
      rest.push_back(run.input);
      continue;
    }
    auto part = std::make_shared<Input>();
    part->ids.assign(input.ids.begin() + run.next, input.ids.end());
    if (!input.embeddings.empty()) {
      part->embeddings.assign(input.embeddings.begin() + run.next * hidden_,
                              input.embeddings.end());
    }
    part->segment_break = std::max<int64_t>(input.segment_break - run.next, -1);
    part->pinned = input.pinned;
    rest.push_back(std::move(part));
  }
  return rest;
}

std::vector<InputToken> InputQueue::Pop(int64_t count) {
  RASQ_CHECK(count <= size_);
  std::vector<InputToken> tokens = Peek(count);
  size_ -= count;
  while (count > 0) {
    Run& run = runs_.front();
    const int64_t taken = std::min(count, run.input->size() - run.next);
    run.next += taken;
    count -= taken;
    if (run.next == run.input->size()) runs_.pop_front();
  }
  return tokens;
}

std::vector<int32_t> InputQueue::Parts(StreamCursor cursor, int32_t segment_rows, int64_t count,
                                       bool keep_last) const {
  const std::vector<InputToken> tokens = Peek(count + 1);  // one more, to see whether more follow
  const int64_t seen = static_cast<int64_t>(tokens.size());
  std::vector<int32_t> parts;
  for (int64_t done = 0; done < seen;) {
    const int32_t part = SegmentPart(cursor, segment_rows, tokens.data() + done, seen - done);
    if (done + part > count || (keep_last && done + part == seen)) break;
    if (BeginsSegment(cursor, segment_rows, tokens[done])) cursor.segment_start = cursor.position;
    cursor.position += part;
    done += part;
    parts.push_back(part);
  }
  return parts;
}

}  // namespace rasq
