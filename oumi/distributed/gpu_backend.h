// The part that needs CUDA: gpu_backend_cuda.cpp, or no_cuda_gpu_backend.cpp where the build has none.
#pragma once

#include <chrono>

#include "oumi/distributed/c10d.h"

namespace oumi {

// Lets `group` reduce tensors on GPUs, over NCCL. Throws EnvironmentError in a build without CUDA.
void add_gpu_backend(c10d::ProcessGroup& group, const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                     std::chrono::milliseconds timeout);

}  // namespace oumi
