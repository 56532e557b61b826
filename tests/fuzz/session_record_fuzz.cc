// Any bytes as a session's record: refused, or a record that is written again as it was read.

#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/session_record.h"
#include "kernels/base/status.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto record = rasq::DecodeRecord({reinterpret_cast<const char*>(data), size});
  if (!record.ok()) return 0;
  const std::string bytes = rasq::EncodeRecord(*record);
  const auto again = rasq::DecodeRecord(bytes);
  RASQ_CHECK(again.ok());
  RASQ_CHECK(rasq::EncodeRecord(*again) == bytes);
  return 0;
}
