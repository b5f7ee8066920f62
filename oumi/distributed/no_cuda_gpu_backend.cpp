#include "oumi/base/error.h"
#include "oumi/distributed/gpu_backend.h"

namespace oumi {

void add_gpu_backend(c10d::ProcessGroup&, const c10::intrusive_ptr<c10d::Store>&, int, int, std::chrono::milliseconds) {
  throw EnvironmentError("training.ddp_backend", "nccl needs a build with CUDA: expected OUMI_CUDA, got a build for the CPU",
                         "leave it out, or set it to gloo");
}

}  // namespace oumi
