// Any bytes as a safetensors file: refused, or every tensor can be read to its last byte.

#include <cstddef>
#include <cstdint>

#include "engine/safetensors.h"
#include "kernels/base/status.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file =
      rasq::SafetensorsFile::Parse({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
  if (!file.ok()) return 0;
  for (const auto& [name, tensor] : (*file)->tensors()) {
    const auto elements = static_cast<size_t>(tensor.num_elements());
    const auto floats = tensor.ToFloats();
    if (floats.ok()) RASQ_CHECK(floats->size() == elements);
    const auto ints = tensor.ToInts();
    if (ints.ok()) RASQ_CHECK(ints->size() == elements);
  }
  return 0;
}
