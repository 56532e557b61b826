// Any bytes as a row of a session log, as they are and under a right checksum: refused, or what is
// read says the same when it is written and read again, and stays inside its bounds.

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "engine/session_log_format.h"
#include "kernels/base/status.h"

namespace {

constexpr rasq::LogRow kRow{.key = 5, .sequence = 7};

void CheckEntry(absl::string_view bytes) {
  const auto entry = rasq::DecodeLogEntry(kRow, bytes);
  if (!entry.ok()) return;
  for (const auto& input : entry->input) {
    if (!input->embeddings.empty()) RASQ_CHECK(input->embeddings.size() % input->ids.size() == 0);
    RASQ_CHECK(input->segment_break >= -1 && input->segment_break < input->size());
  }
  const std::string written = rasq::EncodeLogEntry(kRow, *entry);
  const auto again = rasq::DecodeLogEntry(kRow, written);
  RASQ_CHECK(again.ok() && rasq::EncodeLogEntry(kRow, *again) == written);
}

void CheckSession(absl::string_view bytes) {
  const auto session = rasq::DecodeLogSession(kRow, bytes);
  if (!session.ok()) return;
  RASQ_CHECK(session->state_sequence >= 0);
  RASQ_CHECK(rasq::EncodeLogSession(kRow, *session) == bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const std::string sealed = rasq::SealLogRow(kRow, bytes);
  for (const std::string& row : {bytes, sealed}) {
    CheckEntry(row);
    CheckSession(row);
  }
  if (const auto row = rasq::DecodeLogRow(bytes)) RASQ_CHECK(rasq::EncodeLogRow(*row) == bytes);
  return 0;
}
