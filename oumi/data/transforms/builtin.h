// The transforms that come with the library, named and shaped after torchvision.transforms.
#pragma once

#include <utility>

#include "oumi/data/transforms/transform.h"

namespace oumi {

// name -> factory of every built-in: to_float, normalize, resize, center_crop, random_crop, random_horizontal_flip,
// random_vertical_flip.
std::vector<std::pair<std::string, TransformFactory>> builtin_transforms();

// (value - mean) / std, one entry for all channels or one per channel.
TransformPtr make_normalize(std::vector<double> mean, std::vector<double> std, const std::string& origin);

// The numbers of a scalar or list. Throws UserError naming origin.name.
std::vector<double> read_numbers(const Kwargs& kwargs, const std::string& name, std::vector<double> fallback);

}  // namespace oumi
