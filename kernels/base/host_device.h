// Functions for the processor and the GPU alike: nvcc compiles one for the GPU only if told to.
#pragma once

#ifdef __CUDACC__
#define RASQ_HOST_DEVICE __host__ __device__
#else
#define RASQ_HOST_DEVICE
#endif
