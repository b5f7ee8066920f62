// Runs products by blocks on LibTorch's threads.
#pragma once

#include "oumi/kernels/cpu/block_panels.h"

namespace oumi::kernels::cpu::blocks {

// Whether sums of so many inner values are made in parts: they are in an output's memory meanwhile, which has to be float32.
bool sums_in_parts(std::int64_t inner);

// Threads take pieces as they come, so that one that was held up does not keep the others waiting, and go on to the next panels
// while others finish.
void run(const BlockProducts& products);

}  // namespace oumi::kernels::cpu::blocks
