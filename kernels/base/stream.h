// A queue of work on a GPU: CUDA's own handle, named without its headers.
#pragma once

struct CUstream_st;

namespace rasq {

using Stream = CUstream_st*;

}  // namespace rasq
