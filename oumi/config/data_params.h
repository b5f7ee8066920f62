// `data:` - which samples are read, how they are mixed, and how they become batches. One entry per field: data_params.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "oumi/config/enums.h"
#include "oumi/config/field.h"

namespace oumi {

struct DatasetParams {
  std::string dataset_name{};
  std::optional<std::string> dataset_path{};
  std::optional<std::string> subset{};
  std::string split = "train";
  Json dataset_kwargs = Json::object();
  std::optional<std::int64_t> sample_count{};
  std::optional<double> mixture_proportion{};
  bool shuffle = false;
  std::optional<std::int64_t> seed{};
  std::int64_t shuffle_buffer_size = 1000;
  bool trust_remote_code = false;
  std::optional<IntOrString> transform_num_workers{};

  bool operator==(const DatasetParams&) const = default;
};

struct DatasetSplitParams {
  std::vector<DatasetParams> datasets{};
  std::optional<std::string> collator_name{};
  Json collator_kwargs = Json::object();
  std::optional<TrainTarget> train_target{};
  bool pack = false;
  bool stream = false;
  std::optional<std::string> target_col{};
  std::string mixture_strategy = "first_exhausted";
  std::optional<std::int64_t> seed{};
  std::optional<bool> use_torchdata{};
  Json dataloader_kwargs = Json::object();  // any option of DataLoader, by its name

  bool operator==(const DatasetSplitParams&) const = default;
};

struct DataParams {
  DatasetSplitParams train{};
  DatasetSplitParams test{};
  DatasetSplitParams validation{};

  bool operator==(const DataParams&) const = default;
};

FieldList fields_of(const DatasetParams*);
FieldList fields_of(const DatasetSplitParams*);
FieldList fields_of(const DataParams*);

}  // namespace oumi
