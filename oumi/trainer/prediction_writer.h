// Predictions as a file: one row a sample, {id, prediction, label, probabilities}. The format follows the name: .parquet, else
// JSON lines.
#pragma once

#include <filesystem>
#include <memory>

#include "oumi/trainer/trainer.h"

namespace oumi {

// Writes to a temporary name and renames on close(): the file is whole or absent.
class PredictionWriter {
 public:
  // Throws EnvironmentError when the file cannot be created and UserError for an unknown extension.
  explicit PredictionWriter(const std::filesystem::path& path);
  ~PredictionWriter();

  // Predictions [batch, classes] become the arg max ("prediction"), its softmax "probability" and the raw "logits"; of any
  // other shape only "logits", flattened.
  void write(const PredictionBatch& batch);
  void close();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace oumi
