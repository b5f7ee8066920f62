// Several samples of a stream in one row.
#pragma once

#include "oumi/data/stream.h"
#include "oumi/data/text/packed_dataset.h"

namespace oumi {

// The rows of packed_dataset.h, made of 1000 samples at a time, as TRL packs what it maps: the last row of each such run may be
// short (kConcatenated fills it). Memory holds one run; resuming reads one run again.
StreamPtr pack_stream(StreamPtr stream, const PackOptions& options);

}  // namespace oumi
