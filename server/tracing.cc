#include "server/tracing.h"

#include <algorithm>
#include <cstdint>

#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace rasq {
namespace {

constexpr size_t kMaxRequestIdBytes = 64;
constexpr size_t kTraceIdDigits = 32;
constexpr size_t kParentIdDigits = 16;
// Version, trace id, parent id, flags: "00-<32>-<16>-01".
constexpr size_t kTraceParentBytes = 2 + 1 + kTraceIdDigits + 1 + kParentIdDigits + 1 + 2;

bool IsRequestId(absl::string_view id) {
  return !id.empty() && id.size() <= kMaxRequestIdBytes &&
         std::all_of(id.begin(), id.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
         });
}

bool IsLowerHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f');
  });
}

bool IsZero(absl::string_view text) { return text.find_first_not_of('0') == text.npos; }

}  // namespace

std::string RequestId(absl::string_view from_client) {
  if (IsRequestId(from_client)) return std::string(from_client);
  thread_local absl::BitGen random;
  return absl::StrCat(absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16),
                      absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16));
}

std::optional<TraceParent> ParseTraceParent(absl::string_view text) {
  if (text.size() < kTraceParentBytes) return std::nullopt;
  const absl::string_view version = text.substr(0, 2);
  const absl::string_view trace_id = text.substr(3, kTraceIdDigits);
  const absl::string_view parent_id = text.substr(4 + kTraceIdDigits, kParentIdDigits);
  const absl::string_view flags = text.substr(kTraceParentBytes - 2, 2);
  for (const size_t dash : {size_t{2}, 3 + kTraceIdDigits, kTraceParentBytes - 3}) {
    if (text[dash] != '-') return std::nullopt;
  }
  if (!IsLowerHex(version) || !IsLowerHex(trace_id) || !IsLowerHex(parent_id) ||
      !IsLowerHex(flags) || version == "ff" || IsZero(trace_id) || IsZero(parent_id)) {
    return std::nullopt;
  }
  // Version 00 ends here; later ones may go on after a dash.
  if (text.size() > kTraceParentBytes && (version == "00" || text[kTraceParentBytes] != '-')) {
    return std::nullopt;
  }
  return TraceParent{std::string(trace_id), std::string(parent_id)};
}

}  // namespace rasq
