// Copies of the weights that should be equal on all ranks of data parallelism, and are, unless memory failed or a forward
// differs.
#pragma once

#include <cstdint>

#include "oumi/distributed/process_group.h"
#include "oumi/optim/parameter_groups.h"

namespace oumi {

// Compares hashes of `parameters` over the group's ranks: one pass over this rank's memory and a text of 32 bytes from each. A
// collective. Throws EnvironmentError naming the ranks that differ from most and the first parameters that do; `step` is for
// the message.
void require_equal_replicas(ProcessGroup& group, const NamedParameters& parameters, std::int64_t step);

}  // namespace oumi
