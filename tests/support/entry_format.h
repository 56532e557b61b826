// Rows of entries as they lie in states and staging arrays (kernels/entry_rows.h), made and read
// for tests without the operations' help.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/entry_rows.h"
#include "tests/support/tensors.h"

namespace rasq {

struct EntryFormat {
  EntryType type;
  DType element;
  int64_t heads;
  int64_t width;

  int64_t row_bytes() const { return EntryRowBytes(type, element, heads, width); }

  // Of values [rows, heads, width].
  std::vector<std::byte> Rows(const std::vector<float>& values) const {
    const int64_t row_elements = heads * width;
    const auto num_rows = static_cast<int64_t>(values.size()) / row_elements;
    std::vector<std::byte> rows(num_rows * row_bytes());
    for (int64_t r = 0; r < num_rows; ++r) {
      std::byte* row = rows.data() + r * row_bytes();
      for (int64_t i = 0; type == EntryType::kElement && i < row_elements; ++i) {
        Elements::Store(element, row, i, values[r * row_elements + i]);
      }
      for (int64_t h = 0; type == EntryType::kInt8 && h < heads; ++h) {
        StoreInt8(&values[r * row_elements + h * width], h, row);
      }
    }
    return rows;
  }

  // Of a row's int8, alone.
  int Quantum(const std::byte* rows, int64_t row, int64_t head, int64_t i) const {
    return static_cast<int8_t>(rows[row * row_bytes() + head * width + i]);
  }
  float Scale(const std::byte* rows, int64_t row, int64_t head) const {
    float scale;
    std::memcpy(&scale, rows + row * row_bytes() + EntryScaleOffset(heads, width) + head * 4, 4);
    return scale;
  }

  // What keys and values are read as.
  float Load(const std::byte* rows, int64_t row, int64_t head, int64_t i) const {
    if (type == EntryType::kElement) {
      return Elements::Load(element, rows + row * row_bytes(), head * width + i);
    }
    const float x = static_cast<float>(Quantum(rows, row, head, i)) * Scale(rows, row, head);
    return element == DType::kBfloat16 ? ToFloat(ToBfloat16(x)) : x;
  }

 private:
  void StoreInt8(const float* x, int64_t head, std::byte* row) const {
    float most = 0;
    for (int64_t i = 0; i < width; ++i) most = std::max(most, std::abs(x[i]));
    for (int64_t i = 0; i < width; ++i) {
      const float q = most > 0 ? std::nearbyint(x[i] * (127 / most)) : 0;
      row[head * width + i] = static_cast<std::byte>(static_cast<int8_t>(q));
    }
    const float scale = most / 127;
    std::memcpy(row + EntryScaleOffset(heads, width) + head * 4, &scale, 4);
  }
};

}  // namespace rasq
