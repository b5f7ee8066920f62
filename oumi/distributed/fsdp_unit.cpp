#include "oumi/distributed/fsdp_unit.h"

#include <ATen/core/grad_mode.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace oumi {

c10::DataPtr BufferPool::take(std::size_t bytes, c10::Allocator& allocator) {
  std::vector<c10::DataPtr>& free = free_[bytes];
  if (free.empty()) return allocator.allocate(bytes);
  c10::DataPtr buffer = std::move(free.back());
  free.pop_back();
  return buffer;
}

void BufferPool::give(std::size_t bytes, c10::DataPtr buffer) { free_[bytes].push_back(std::move(buffer)); }

FlatParameters::FlatParameters(ProcessGroup& group, BufferPool& pool, std::vector<Member> members, bool trained,
                               std::optional<at::ScalarType> compute_dtype)
    : group_(group), pool_(pool), members_(std::move(members)), trained_(trained) {
  const at::NoGradGuard no_grad;
  std::int64_t total = 0;
  for (Member& member : members_) {
    member.size = member.parameter.numel();
    member.offset = total;
    total += member.size;
  }
  const std::int64_t world = group_.world_size();
  part_ = (total + world - 1) / world;
  const auto options = members_.front().parameter.options().requires_grad(false);
  const at::ScalarType own = members_.front().parameter.scalar_type();
  local_ = at::zeros({part_}, options);
  const std::int64_t begin = first(), end = begin + part_;
  for (const Member& member : members_) {
    const std::int64_t from = std::max(begin, member.offset), to = std::min(end, member.offset + member.size);
    if (from >= to) continue;
    local_.narrow(0, from - begin, to - from)
        .copy_(member.parameter.detach().reshape({-1}).narrow(0, from - member.offset, to - from));
  }
  const bool mixed = compute_dtype && at::isFloatingType(own) && own == at::kFloat;
  flat_ = at::empty({part_ * world}, mixed ? options.dtype(*compute_dtype) : options);
  for (Member& member : members_) {
    member.view = flat_.narrow(0, member.offset, member.size).view(member.parameter.sizes());
    member.parameter.set_data(member.view);
  }
  at::native::resize_bytes_nocuda(flat_.storage(), static_cast<std::int64_t>(0));
  whole_ = false;
}

void FlatParameters::point_to(const Tensor& flat) {
  for (Member& member : members_)
    member.parameter.set_data(flat.narrow(0, member.offset, member.size).view(member.view.sizes()));
}

void FlatParameters::point_to_buffer() {
  for (Member& member : members_) member.parameter.set_data(member.view);
}

void FlatParameters::start_gather() {
  if (whole_ || gather_.under_way()) return;
  const at::NoGradGuard no_grad;
  c10::StorageImpl& storage = *flat_.storage().unsafeGetStorageImpl();
  storage.set_data_ptr_noswap(pool_.take(buffer_bytes(), *storage.allocator()));
  storage.set_nbytes(buffer_bytes());
  gather_ = group_.all_gather(flat_, local_.to(flat_.scalar_type()), "gathering weights");
}

void FlatParameters::finish_gather() {
  start_gather();
  gather_.wait();
  whole_ = true;
}

void FlatParameters::free() {
  gather_.wait();
  // The tensors that autograd has saved share this storage; they get its contents back with the next gather.
  c10::StorageImpl& storage = *flat_.storage().unsafeGetStorageImpl();
  if (storage.nbytes() > 0) pool_.give(buffer_bytes(), storage.set_data_ptr(c10::DataPtr(nullptr, storage.device())));
  storage.set_nbytes(0);
  whole_ = false;
}

void FlatParameters::start_reduce(std::int64_t ranks_in_mean) {
  if (!trained_) return;
  const at::NoGradGuard no_grad;
  finish_reduce();
  // Summed in the shards' dtype: bfloat16 sums over many ranks lose what the masters are kept for.
  const Tensor whole = at::zeros({part_ * group_.world_size()}, local_.options());
  for (Member& member : members_) {
    Tensor& gradient = member.parameter.mutable_grad();
    if (!gradient.defined()) continue;
    whole.narrow(0, member.offset, member.size).copy_(gradient.reshape({-1}));
    gradient.reset();
  }
  whole.div_(static_cast<double>(ranks_in_mean));
  reduced_ = at::empty({part_}, local_.options());
  reduce_ = group_.reduce_scatter(reduced_, whole, "averaging gradients");
}

void FlatParameters::finish_reduce() {
  if (!reduced_.defined()) return;
  const at::NoGradGuard no_grad;
  reduce_.wait();
  if (gradient_.defined()) {
    gradient_.add_(reduced_);
  } else {
    gradient_ = reduced_;
  }
  reduced_.reset();
}

void FlatParameters::start_adding_copies(ProcessGroup& copies) {
  const at::NoGradGuard no_grad;
  if (!gradient_.defined()) gradient_ = at::zeros({part_}, local_.options());
  copies_ = copies.start_all_reduce(gradient_, ReduceKind::kSum, "averaging gradients over copies of the model");
}

void FlatParameters::drop_gradients() {
  finish_reduce();
  finish_adding_copies();
  gradient_.reset();
  for (Member& member : members_) member.parameter.mutable_grad().reset();
}

Tensor FlatParameters::gather_masters() {
  const at::NoGradGuard no_grad;
  const Tensor whole = at::empty({part_ * group_.world_size()}, local_.options());
  group_.all_gather(whole, local_, "gathering weights").wait();
  return whole;
}

}  // namespace oumi
