#include "oumi/data/data_loader_fetch.h"

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <dlfcn.h>
#include <pthread.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

// "samples 3, 17, ... (16 in all)"
std::string list_samples(std::span<const std::int64_t> indices) {
  constexpr std::size_t kShown = 8;
  if (indices.size() == 1) return cat("sample ", indices[0]);
  std::string text = "samples ";
  for (std::size_t i = 0; i < indices.size() && i < kShown; ++i) text += cat(i == 0 ? "" : ", ", indices[i]);
  if (indices.size() > kShown) text += cat(", ... (", indices.size(), " in all)");
  return text;
}

// The first line: the rest of a c10::Error is a stack trace.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

Batch finish(Batch batch, bool pin_memory) { return pin_memory ? batch.pin_memory() : batch; }

// omp_set_num_threads of the OpenMP runtime that LibTorch itself uses, which need not be the one that a linker would find;
// nullptr when LibTorch was built without OpenMP.
using SetThreads = void (*)(int);
SetThreads find_set_threads() {
  Dl_info torch;
  if (dladdr(reinterpret_cast<const void*>(&at::get_num_threads), &torch) == 0) return nullptr;
  void* library = dlopen(torch.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  return library == nullptr ? nullptr : reinterpret_cast<SetThreads>(dlsym(library, "omp_set_num_threads"));
}

}  // namespace

void rethrow_naming(const Dataset& dataset, const std::string& where) {
  try {
    throw;
  } catch (const Error& error) {
    if (error.message().find("sample") != std::string::npos) throw;
    const std::string message = cat(error.message(), " (", where, " of ", dataset.name(), ")");
    switch (error.exit_code()) {
      case ExitCode::kUser: throw UserError(error.component(), message, error.hint());
      case ExitCode::kEnvironment: throw EnvironmentError(error.component(), message, error.hint());
      default: throw;
    }
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const StoppedBySignal&) {
    throw;
  } catch (const c10::Error& error) {
    if (is_out_of_memory(error)) rethrow_naming_memory(error, dataset.name());
    throw UserError(dataset.name(), cat(where, ": ", first_line(error.what_without_backtrace())));
  } catch (const std::exception& error) {
    throw UserError(dataset.name(), cat(where, ": ", first_line(error.what())));
  }
}

Batch fetch_batch(Dataset& dataset, std::span<const std::int64_t> indices, const FetchOptions& options) {
  const c10::AutoGradMode no_grad(false);
  Batch batch;
  if (!options.collate_fn) {
    try {
      batch = dataset.get_batch(indices);
    } catch (...) {
      rethrow_naming(dataset, list_samples(indices));
    }
  } else {
    std::vector<Sample> samples;
    samples.reserve(indices.size());
    for (const std::int64_t index : indices) {
      try {
        samples.push_back(dataset.get(index));
      } catch (...) {
        rethrow_naming(dataset, cat("sample ", index));
      }
    }
    try {
      batch = options.collate_fn(samples);
    } catch (...) {
      rethrow_naming(dataset, "collate_fn on " + list_samples(indices));
    }
  }
  if (batch.sample_ids.empty()) batch.sample_ids.assign(indices.begin(), indices.end());
  return finish(std::move(batch), options.pin_memory);
}

Batch collate_batch(Dataset& dataset, const std::vector<Sample>& samples, const FetchOptions& options) {
  const c10::AutoGradMode no_grad(false);
  try {
    return finish(options.collate_fn ? options.collate_fn(samples) : default_collate(samples), options.pin_memory);
  } catch (...) {
    rethrow_naming(dataset, cat("collating ", samples.size(), " samples"));
  }
}

void prepare_worker_thread(std::int64_t worker) {
  pthread_setname_np(pthread_self(), cat("loader-", worker).substr(0, 15).c_str());
  c10::GradMode::set_enabled(false);
  at::get_num_threads();  // lets LibTorch set the thread up first: it would overwrite what follows
  // at::set_num_threads would do more than wanted: it sets MKL's and the default of later threads for the whole process,
  // while this is the calling thread's alone.
  static const SetThreads set_threads = find_set_threads();
  if (set_threads != nullptr) set_threads(1);
}

}  // namespace oumi
