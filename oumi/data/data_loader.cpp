#include "oumi/data/data_loader.h"

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/data_loader_impl.h"

namespace oumi {

DataLoader::DataLoader(DatasetPtr dataset, DataLoaderOptions options)
    : impl_(std::make_unique<Impl>(std::move(dataset), std::move(options))) {}
DataLoader::DataLoader(DatasetPtr dataset, const Json& dataloader_kwargs)
    : DataLoader(std::move(dataset), DataLoaderOptions::from_kwargs(dataloader_kwargs)) {}
DataLoader::~DataLoader() = default;
DataLoader::DataLoader(DataLoader&&) noexcept = default;
DataLoader& DataLoader::operator=(DataLoader&&) noexcept = default;

void DataLoader::start_epoch(std::int64_t epoch, std::int64_t first_batch) { impl_->start_epoch(epoch, first_batch); }
std::optional<Batch> DataLoader::next() { return impl_->next(); }
std::optional<std::int64_t> DataLoader::batches_per_epoch() const { return impl_->batches_per_epoch(); }
std::int64_t DataLoader::epoch() const { return impl_->epoch(); }
std::int64_t DataLoader::position() const { return impl_->position(); }
Json DataLoader::state_dict() const { return impl_->state_dict(); }
void DataLoader::load_state_dict(const Json& state) { impl_->load_state_dict(state); }
const DatasetPtr& DataLoader::dataset() const { return impl_->dataset(); }
const DataLoaderOptions& DataLoader::options() const { return impl_->options(); }

std::int64_t DataLoader::size() const {
  if (const auto known = batches_per_epoch()) return *known;
  throw UserError(dataset()->name(),
                  "the number of batches in an epoch is not known: it is an iterable dataset without a length",
                  "set training.max_steps");
}

DataLoader::Iterator DataLoader::begin() {
  impl_->begin();
  return Iterator(this);
}

}  // namespace oumi
