// Datasets of CSV, JSONL, Parquet and Arrow files.
#pragma once

#include "oumi/data/registry.h"

namespace oumi {

// `csv`, `jsonl`, `parquet`, `arrow`: columns become the samples' fields (arrow_columns.h); files are found by split
// (tabular_files.h). `pretokenized` is any of the four, by what dataset_path holds. In memory, or with request.stream read
// in blocks: O(1) memory, and a state of file, block and row.
// dataset_kwargs: columns, rename, dtypes, stack, label_column, class_names, transforms, transform_field, mean, std;
// csv: delimiter, column_names; csv and jsonl: block_size (bytes).
DatasetPtr make_csv_dataset(const DatasetRequest& request);
DatasetPtr make_jsonl_dataset(const DatasetRequest& request);
DatasetPtr make_parquet_dataset(const DatasetRequest& request);
DatasetPtr make_arrow_dataset(const DatasetRequest& request);
DatasetPtr make_pretokenized_dataset(const DatasetRequest& request);

}  // namespace oumi
