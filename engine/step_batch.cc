#include "engine/step_batch.h"

#include <algorithm>

#include "kernels/base/status.h"

namespace rasq {

bool BeginsSegment(const StreamCursor& cursor, int32_t segment_rows, const InputToken& token) {
  return token.starts_segment || cursor.open_tokens() == 0 || cursor.open_tokens() == segment_rows;
}

int32_t SegmentPart(const StreamCursor& cursor, int32_t segment_rows, const InputToken* tokens,
                    int64_t num_tokens) {
  if (num_tokens == 0) return 0;
  const int64_t room = BeginsSegment(cursor, segment_rows, tokens[0])
                           ? segment_rows
                           : segment_rows - cursor.open_tokens();
  const int64_t most = std::min(room, num_tokens);
  int32_t part = 1;
  while (part < most && !tokens[part].starts_segment) ++part;
  return part;
}

namespace {

int64_t LeavingEnd(const StreamShape& shape, int64_t segment_start) {
  return std::max<int64_t>(0, segment_start - shape.window_rows);
}

void AddStream(const StreamStep& stream, int32_t index, StepBatch& batch, StepGroup& group) {
  RASQ_CHECK(!stream.tokens.empty());
  const StreamShape& shape = stream.layout->shape;
  StreamChunk chunk{.state = stream.state,
                    .first_position = stream.cursor->position,
                    .first_row = batch.num_rows(),
                    .num_rows = static_cast<int32_t>(stream.tokens.size()),
                    .first_segment = static_cast<int32_t>(group.segments.size()),
                    .num_segments = 0,
                    .leave_begin = LeavingEnd(shape, stream.cursor->segment_start),
                    .leave_end = 0,
                    .first_staged = group.num_staged,
                    .first_entry = group.num_entry_rows};
  StreamCursor cursor = *stream.cursor;
  bool any_begins = false;
  for (size_t done = 0; done < stream.tokens.size();) {
    const InputToken* tokens = stream.tokens.data() + done;
    const bool begins = BeginsSegment(cursor, shape.segment_rows, *tokens);
    const int32_t part =
        SegmentPart(cursor, shape.segment_rows, tokens, stream.tokens.size() - done);
    if (begins) cursor.segment_start = cursor.position;
    any_begins |= begins;
    group.segments.push_back({.chunk = static_cast<int32_t>(group.chunks.size()),
                              .first_row = chunk.first_row + static_cast<int32_t>(done),
                              .num_rows = part,
                              .begins = begins ? 1 : 0,
                              .start = cursor.segment_start});
    cursor.position += part;
    done += part;
    ++chunk.num_segments;
  }
  RASQ_CHECK(!group.weighs_keys || (stream.layout->keeps_all() && chunk.num_segments == 1));
  // What leaves must be in the rings: see head_lists.h.
  RASQ_CHECK(!stream.layout->has_store() || chunk.num_segments == 1);
  chunk.leave_end = LeavingEnd(shape, cursor.segment_start);
  const int32_t staged = static_cast<int32_t>(chunk.leave_end - chunk.leave_begin);
  group.num_staged += staged;
  if (any_begins && stream.layout->has_memory()) group.num_entry_rows += shape.capacity + staged;
  batch.max_chunk_staged = std::max(batch.max_chunk_staged, staged);
  group.chunks.push_back(chunk);
  group.write.push_back(stream.write);
  group.read.push_back(stream.read);
  group.stream.push_back(index);
  for (const InputToken& token : stream.tokens) {
    batch.token.push_back(token.id);
    batch.pinned.push_back(token.pinned ? 1 : 0);
  }
  batch.last_row[index] = batch.num_rows() - 1;
}

}  // namespace

StepBatch MakeStepBatch(absl::Span<const StreamStep> streams) {
  StepBatch batch;
  batch.last_row.resize(streams.size());
  const auto belongs = [](const StreamStep& stream, const StepGroup& group) {
    return stream.layout == group.layout && (stream.key_weights != nullptr) == group.weighs_keys;
  };
  for (const StreamStep& stream : streams) {
    const bool known = std::any_of(batch.groups.begin(), batch.groups.end(),
                                   [&](const StepGroup& group) { return belongs(stream, group); });
    if (known) continue;
    StepGroup& group = batch.groups.emplace_back();
    group.layout = stream.layout;
    group.weighs_keys = stream.key_weights != nullptr;
  }
  for (StepGroup& group : batch.groups) {
    group.first_segment = batch.num_segments;
    group.first_chunk = batch.num_chunks;
    group.first_staged = batch.num_staged;
    group.first_entry = batch.num_entry_rows;
    group.first_store = batch.num_store_segments;
    for (size_t i = 0; i < streams.size(); ++i) {
      if (belongs(streams[i], group)) {
        AddStream(streams[i], static_cast<int32_t>(i), batch, group);
      }
    }
    batch.num_segments += static_cast<int32_t>(group.segments.size());
    if (group.layout->has_store()) {
      batch.num_store_segments += static_cast<int32_t>(group.segments.size());
    }
    batch.num_chunks += static_cast<int32_t>(group.chunks.size());
    batch.num_staged += group.num_staged;
    batch.num_entry_rows += group.num_entry_rows;
  }
  return batch;
}

}  // namespace rasq
