#include "oumi/config/data_params.h"

#include "oumi/config/codec.h"

namespace oumi {

FieldList fields_of(const DatasetParams*) {
  using P = DatasetParams;
  static constexpr Field kFields[] = {
      required_field<&P::dataset_name>("dataset_name", "", "Name of a registered dataset, or of one on the Hub."),
      field<&P::dataset_path>("dataset_path", "", "Local file or folder to read the dataset from."),
      field<&P::subset>("subset", "", "Named part of the dataset (a Hub configuration)."),
      field<&P::split>("split", "", "Split to read; slices such as train[:90%] are taken too."),
      field<&P::dataset_kwargs>("dataset_kwargs", "", "Arguments of the dataset's constructor; an unknown one is an error."),
      field<&P::sample_count>("sample_count", "samples", "Samples to take; more than there are repeats the dataset."),
      field<&P::mixture_proportion>("mixture_proportion", "",
                                    "Share in the mixture, 0 to 1; all datasets of a split or none, summing to 1."),
      field<&P::shuffle>("shuffle", "", "Shuffle this dataset before sampling and mixing."),
      field<&P::seed>("seed", "", "Seed of that shuffle."),
      field<&P::shuffle_buffer_size>("shuffle_buffer_size", "samples", "Buffer that a streamed dataset is shuffled in."),
      field<&P::trust_remote_code>("trust_remote_code", "", "Accepted for old recipes; no remote code is ever run."),
      field<&P::transform_num_workers>("transform_num_workers", "threads", "Threads for the dataset's transform, or auto."),
  };
  return kFields;
}

FieldList fields_of(const DatasetSplitParams*) {
  using P = DatasetSplitParams;
  static constexpr Field kFields[] = {
      field<&P::datasets>("datasets", "", "Datasets of this split; more than one are mixed."),
      field<&P::collator_name>("collator_name", "", "How samples become a batch; unset picks the default for the model."),
      field<&P::collator_kwargs>("collator_kwargs", "", "Arguments of the collator."),
      field<&P::train_target>("train_target", "",
                              "Assistant turns that are trained on; needs text_completions_only_with_padding."),
      field<&P::pack>("pack", "", "Join tokenized samples into blocks of the model's maximum length."),
      field<&P::stream>("stream", "", "Read while training instead of loading first."),
      field<&P::target_col>("target_col", "", "Deprecated."),
      field<&P::mixture_strategy>("mixture_strategy", "", "When a mixture ends: first_exhausted or all_exhausted."),
      field<&P::seed>("seed", "", "Seed of the mixture."),
      field<&P::use_torchdata>("use_torchdata", "", "Accepted for old recipes; there is one loader for every dataset."),
      field<&P::dataloader_kwargs>("dataloader_kwargs", "", "Any option of the DataLoader; wins over training.dataloader_*."),
  };
  return kFields;
}

FieldList fields_of(const DataParams*) {
  using P = DataParams;
  static constexpr Field kFields[] = {
      field<&P::train>("train", "", "Samples that are trained on."),
      field<&P::test>("test", "", "Samples held back; not read by train."),
      field<&P::validation>("validation", "", "Samples that evaluation measures."),
  };
  return kFields;
}

}  // namespace oumi
