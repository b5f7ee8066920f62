// The ordered dict of name -> tensor behind Sample, Batch, Outputs and state dicts.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <initializer_list>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace oumi {

using Tensor = at::Tensor;

// Keeps insertion order. Look-ups are linear below a handful of entries and hashed above: a batch has three entries, a
// state dict thousands.
class TensorDict {
 public:
  using Entry = std::pair<std::string, Tensor>;

  TensorDict() = default;
  TensorDict(std::initializer_list<Entry> entries);

  // Throws UserError naming the key and what is there instead.
  const Tensor& at(const std::string& name) const;
  Tensor& at(const std::string& name);
  // nullptr when absent.
  const Tensor* find(const std::string& name) const;
  bool contains(const std::string& name) const { return find(name) != nullptr; }
  // Adds the entry, or replaces it in place.
  void set(const std::string& name, Tensor value);
  // False when there was nothing to erase.
  bool erase(const std::string& name);
  Tensor& operator[](const std::string& name);

  std::size_t size() const noexcept { return entries_.size(); }
  bool empty() const noexcept { return entries_.empty(); }
  std::vector<std::string> names() const;
  auto begin() const noexcept { return entries_.begin(); }
  auto end() const noexcept { return entries_.end(); }
  auto begin() noexcept { return entries_.begin(); }
  auto end() noexcept { return entries_.end(); }

 protected:
  void move_to(c10::Device device, bool non_blocking);
  void pin();

 private:
  std::size_t position(const std::string& name) const;  // size() when absent

  std::vector<Entry> entries_;
  std::unordered_map<std::string, std::size_t> index_;  // filled once there are more than kLinear entries
};

// Weights and buffers by their dotted PyTorch names.
using StateDict = TensorDict;

}  // namespace oumi
