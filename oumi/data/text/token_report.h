// What the user is told of a set of samples before it is trained on, and what is wrong with it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "oumi/data/dataset.h"
#include "oumi/data/text/packed_dataset.h"

namespace oumi {

struct TokenReport {
  std::int64_t samples = 0, tokens = 0, supervised = 0;
  std::int64_t cut_samples = 0, dropped_tokens = 0;
  std::int64_t silent_samples = 0;  // nothing to learn from
  std::optional<PackReport> packing;

  // One line each: samples, tokens and the supervised share; what was cut; how rows are filled.
  std::vector<std::string> lines(const std::string& key) const;
};

// Counts a map-style dataset of tokens. With `vocab_size`, throws UserError naming the sample and the first token id (or label)
// that is not in [0, vocab_size); and throws when nothing at all is supervised. Reads samples only where their counts aren't
// known. `key` is the config's section, for errors.
TokenReport report_tokens(const DatasetPtr& dataset, const std::string& key,
                          std::optional<std::int64_t> vocab_size = std::nullopt);

}  // namespace oumi
