// Which modules are units of FSDP. Internal.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "oumi/distributed/sharding_options.h"
#include "oumi/tensors/module.h"

namespace oumi {

struct WrappedUnit {
  std::string name = {};  // "" is the model itself, which comes last
  Module* module = nullptr;
  std::vector<std::size_t> parameters = {};  // indices into the list of parameters
};

// Inner units first. Every parameter is in exactly one unit: the innermost around it. A parameter that modules of several units
// share belongs to the model itself, and so do those that `shared` names (shard_model).
std::vector<WrappedUnit> find_units(Module& model, const std::vector<std::pair<std::string, Tensor>>& parameters,
                                    const ShardingOptions& options, const std::set<std::string>& shared);

}  // namespace oumi
