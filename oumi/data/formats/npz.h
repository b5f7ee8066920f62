// NumPy's .npz archives.
#pragma once

#include "oumi/data/registry.h"

namespace oumi {

// `npz_file`: the archive's arrays are the samples' fields, in the order of their names; each array's first dimension counts
// samples. Numbers and bools of any byte order and memory order; uint16, uint32 and uint64 become the next wider signed
// type. An array of strings called `split` (dataset_kwargs.npz_split_col names another) keeps the samples whose string is
// the split asked for; without it the archive is one split, `train`.
// dataset_kwargs: columns, rename, npz_split_col, transforms, transform_field, mean, std, class_names.
DatasetPtr make_npz_dataset(const DatasetRequest& request);

}  // namespace oumi
