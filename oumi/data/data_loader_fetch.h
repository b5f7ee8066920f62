// One batch from a dataset, with errors that name the samples. Internal to the loader.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "oumi/data/collate.h"
#include "oumi/data/dataset.h"

namespace oumi {

struct FetchOptions {
  CollateFn collate_fn = nullptr;  // none: the dataset's get_batch
  bool pin_memory = false;
};

// Samples `indices` of a map-style dataset as a batch, made without recording gradients. Errors of the dataset's keep their
// kind and component and name the sample; anything else that is thrown becomes a UserError that does.
Batch fetch_batch(Dataset& dataset, std::span<const std::int64_t> indices, const FetchOptions& options);

// The same for samples that have been read already.
Batch collate_batch(Dataset& dataset, const std::vector<Sample>& samples, const FetchOptions& options);

// Inside a catch block: throws the current exception again, with `where` ("sample 17") added where its text lacks it.
[[noreturn]] void rethrow_naming(const Dataset& dataset, const std::string& where);

// Makes the calling thread do its tensor work alone and without gradients, so that loader threads and the training
// thread's own team do not fight over cores.
void prepare_worker_thread(std::int64_t worker);

}  // namespace oumi
