#include <algorithm>
#include <thread>

#include "oumi/base/error.h"
#include "oumi/base/kwargs.h"
#include "oumi/base/strings.h"
#include "oumi/data/collators.h"
#include "oumi/data/data_loader.h"

namespace oumi {
namespace {

// The value of `name`; `fallback` when absent or null.
template <class T>
T get_or(const Kwargs& kwargs, const char* name, T fallback) {
  const Json* value = kwargs.find(name);
  return value == nullptr || value->is_null() ? fallback : kwargs.get<T>(name, fallback);
}

// Options that are Python objects: only their None can come from a config.
void expect_null(const Kwargs& kwargs, const char* name, const char* hint) {
  const Json* value = kwargs.find(name);
  if (value != nullptr && !value->is_null()) {
    throw UserError(kwargs.origin() + "." + name, cat("expected null, got ", json_type_name(*value), " ", value->dump()), hint);
  }
}

CollateFn read_collate_fn(const Kwargs& kwargs) {
  const Json* value = kwargs.find("collate_fn");
  if (value == nullptr || value->is_null()) return nullptr;
  if (value->is_string()) {
    // The dataset's own get_batch does what `default` asks for, faster.
    return to_lower(value->get<std::string>()) == "default" ? nullptr : build_collator(value->get<std::string>());
  }
  if (value->is_object() && value->contains("name") && value->at("name").is_string()) {
    Json arguments = *value;
    arguments.erase("name");
    return build_collator(value->at("name").get<std::string>(), arguments);
  }
  throw UserError(kwargs.origin() + ".collate_fn",
                  cat("expected a collator's name, or a dict with `name` and its arguments, got ", json_type_name(*value), " ",
                      value->dump()),
                  "known: " + join(collator_names(), ", "));
}

std::uint64_t read_seed(const Kwargs& kwargs) {
  const bool from_generator = kwargs.contains("generator") && !kwargs.find("generator")->is_null();
  return static_cast<std::uint64_t>(get_or<std::int64_t>(kwargs, from_generator ? "generator" : "seed", 0));
}

}  // namespace

std::int64_t auto_num_workers() {
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(std::thread::hardware_concurrency()) - 1, 0, 8);
}

DataLoaderOptions DataLoaderOptions::from_kwargs(const Json& dataloader_kwargs) {
  if (!dataloader_kwargs.is_object() && !dataloader_kwargs.is_null()) {
    throw UserError("dataloader_kwargs",
                    cat("expected dict, got ", json_type_name(dataloader_kwargs), " ", dataloader_kwargs.dump()));
  }
  const Kwargs kwargs(dataloader_kwargs.is_null() ? Json::object() : dataloader_kwargs, "dataloader_kwargs");
  DataLoaderOptions options;
  if (const Json* value = kwargs.find("batch_size"); value != nullptr && value->is_null()) {
    throw UserError("dataloader_kwargs.batch_size", "expected int, got null: batches always have a batch dimension",
                    "use batch_size: 1");
  }
  options.batch_size = kwargs.get<std::int64_t>("batch_size", 1);
  options.shuffle = get_or<bool>(kwargs, "shuffle", false);
  if (const Json* workers = kwargs.find("num_workers"); workers != nullptr && workers->is_string()) {
    if (to_lower(workers->get<std::string>()) != "auto") {
      throw UserError("dataloader_kwargs.num_workers", "expected int or auto, got " + workers->dump());
    }
    options.num_workers = auto_num_workers();
  } else {
    options.num_workers = get_or<std::int64_t>(kwargs, "num_workers", 0);
  }
  options.collate_fn = read_collate_fn(kwargs);
  options.pin_memory = get_or<bool>(kwargs, "pin_memory", false);
  options.drop_last = get_or<bool>(kwargs, "drop_last", false);
  options.timeout = get_or<double>(kwargs, "timeout", 0);
  if (const Json* factor = kwargs.find("prefetch_factor"); factor != nullptr && !factor->is_null()) {
    options.prefetch_factor = kwargs.get<std::int64_t>("prefetch_factor", 0);
  }
  options.persistent_workers = get_or<bool>(kwargs, "persistent_workers", false);
  options.in_order = get_or<bool>(kwargs, "in_order", true);
  options.seed = read_seed(kwargs);
  options.even_batches = get_or<bool>(kwargs, "even_batches", true);
  options.split_batches = get_or<bool>(kwargs, "split_batches", false);
  expect_null(kwargs, "sampler", "give samplers through DataLoaderOptions; in a config use shuffle");
  expect_null(kwargs, "batch_sampler", "give batch samplers through DataLoaderOptions");
  expect_null(kwargs, "worker_init_fn", "give it through DataLoaderOptions");
  expect_null(kwargs, "multiprocessing_context", "workers are threads here: remove it");
  const std::string pin_device = get_or<std::string>(kwargs, "pin_memory_device", "");
  if (!pin_device.empty() && !to_lower(pin_device).starts_with("cuda")) {
    throw UserError("dataloader_kwargs.pin_memory_device", "expected an empty string or cuda, got " + pin_device, "remove it");
  }
  kwargs.check_all_read();
  return options;
}

}  // namespace oumi
