// Token rows out of Megatron's indexed datasets.
#pragma once

#include "oumi/data/registry.h"

namespace oumi {

// `megatron_indexed`: dataset_path is the prefix of PREFIX.bin and PREFIX.idx, or either file. Needs no tokenizer. A sample is
// a document, cut at model.model_max_length; with dataset_kwargs.seq_length documents are joined and cut into rows of so many
// tokens. append_concat_token (default false: Megatron's documents end with a token of their own) puts the tokenizer's
// end-of-text token between them, skip_last (default true) drops what is left at the end. Map-style and memory-mapped: opening
// reads the index alone, and any row is read by itself.
DatasetPtr make_megatron_indexed(const DatasetRequest& request);

}  // namespace oumi
