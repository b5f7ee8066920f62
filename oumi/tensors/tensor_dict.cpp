#include "oumi/tensors/tensor_dict.h"

#include <ATen/Functions.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {
constexpr std::size_t kLinear = 8;
}  // namespace

TensorDict::TensorDict(std::initializer_list<Entry> entries) {
  for (const Entry& entry : entries) set(entry.first, entry.second);
}

std::size_t TensorDict::position(const std::string& name) const {
  if (entries_.size() > kLinear) {
    const auto found = index_.find(name);
    return found == index_.end() ? entries_.size() : found->second;
  }
  std::size_t i = 0;
  while (i < entries_.size() && entries_[i].first != name) ++i;
  return i;
}

const Tensor* TensorDict::find(const std::string& name) const {
  const std::size_t i = position(name);
  return i == entries_.size() ? nullptr : &entries_[i].second;
}

const Tensor& TensorDict::at(const std::string& name) const {
  if (const Tensor* found = find(name)) return *found;
  const std::vector<std::string> have = names();
  throw UserError(name, "no tensor of that name: expected one of [" + join(have, ", ") + "]", suggestion(name, have));
}

Tensor& TensorDict::at(const std::string& name) { return const_cast<Tensor&>(std::as_const(*this).at(name)); }

void TensorDict::set(const std::string& name, Tensor value) { (*this)[name] = std::move(value); }

Tensor& TensorDict::operator[](const std::string& name) {
  const std::size_t i = position(name);
  if (i < entries_.size()) return entries_[i].second;
  entries_.emplace_back(name, Tensor());
  if (entries_.size() == kLinear + 1) {
    for (std::size_t k = 0; k < entries_.size(); ++k) index_[entries_[k].first] = k;
  } else if (entries_.size() > kLinear) {
    index_[name] = i;
  }
  return entries_.back().second;
}

bool TensorDict::erase(const std::string& name) {
  const std::size_t i = position(name);
  if (i == entries_.size()) return false;
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(i));
  index_.clear();
  if (entries_.size() > kLinear) {
    for (std::size_t k = 0; k < entries_.size(); ++k) index_[entries_[k].first] = k;
  }
  return true;
}

std::vector<std::string> TensorDict::names() const {
  std::vector<std::string> names;
  for (const Entry& entry : entries_) names.push_back(entry.first);
  return names;
}

void TensorDict::move_to(c10::Device device, bool non_blocking) {
  for (Entry& entry : entries_) {
    if (entry.second.defined()) entry.second = entry.second.to(device, entry.second.scalar_type(), non_blocking);
  }
}

void TensorDict::pin() {
  for (Entry& entry : entries_) {
    if (entry.second.defined()) entry.second = entry.second.pin_memory();
  }
}

}  // namespace oumi
