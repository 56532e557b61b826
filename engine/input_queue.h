// What has been accepted for a stream and is not in its state yet, in order.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "engine/step.h"

namespace rasq {

// A run of input: token ids, or rows that stand in place of tokens. Shared, so that copying a queue
// costs little however long its runs are.
struct Input {
  std::vector<int32_t> ids;
  std::vector<float> embeddings;  // [rows, hidden]; if not empty, `ids` is -1 for each row
  int64_t segment_break = -1;     // index of a token that starts a segment; -1: none does
  bool pinned = false;            // see InputToken

  int64_t size() const { return static_cast<int64_t>(ids.size()); }
};

class InputQueue {
 public:
  explicit InputQueue(int64_t hidden) : hidden_(hidden) {}

  void Push(std::shared_ptr<const Input> input);
  int64_t size() const { return size_; }

  // What is still queued, as runs of their own.
  std::vector<std::shared_ptr<const Input>> Rest() const;
  // The first `count` tokens, or all if there are fewer.
  std::vector<InputToken> Peek(int64_t count) const;
  // The same, and takes them out.
  std::vector<InputToken> Pop(int64_t count);

  // Tokens of the next segments of a stream at `cursor`, of the first `count` tokens. With
  // `keep_last`, a segment counts only once a token stands behind it: the last one waits, for a
  // generation may still go on in it or close it early.
  std::vector<int32_t> Parts(StreamCursor cursor, int32_t segment_rows, int64_t count,
                             bool keep_last) const;

 private:
  struct Run {
    std::shared_ptr<const Input> input;
    int64_t next;  // first token that is still queued
  };
  int64_t hidden_;
  int64_t size_ = 0;
  std::deque<Run> runs_;
};

}  // namespace rasq
