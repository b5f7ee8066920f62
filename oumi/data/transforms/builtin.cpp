#include "oumi/data/transforms/builtin.h"

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/upsample_bicubic2d.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <cmath>

namespace oumi {
namespace {

struct Extent {
  std::int64_t height, width;
};

// Integers of a scalar or list.
std::vector<std::int64_t> read_integers(const Kwargs& kwargs, const std::string& name) {
  if (const Json* value = kwargs.find(name); value != nullptr && value->is_array()) {
    return kwargs.require<std::vector<std::int64_t>>(name);
  }
  return {kwargs.require<std::int64_t>(name)};
}

// `size`: a number, or [height, width].
std::vector<std::int64_t> read_size(const Kwargs& kwargs) {
  const auto size = read_integers(kwargs, "size");
  if (size.empty() || size.size() > 2 || size.front() < 1 || size.back() < 1) {
    throw UserError(kwargs.origin() + ".size",
                    "expected a positive number or [height, width], got " + kwargs.find("size")->dump());
  }
  return size;
}

Extent square(const std::vector<std::int64_t>& size) { return {size.front(), size.back()}; }

void require_image(const Tensor& value, int batch_dims, const std::string& origin) {
  if (value.dim() - batch_dims != 3) {
    throw UserError(origin, cat("expected an image [channels, height, width], got ", value.sizes().slice(batch_dims)));
  }
}

class ToFloat : public Transform {
 public:
  explicit ToFloat(const Kwargs& kwargs) : scale_(kwargs.get("scale", true)) {}
  Tensor apply(const Tensor& value, SampleRng&, int) const override {
    if (value.scalar_type() == c10::kFloat) return value;
    const Tensor converted = value.to(c10::kFloat);
    // Division, as torchvision's ToTensor: multiplying by 1/255 gives other last bits.
    return scale_ && value.scalar_type() == c10::kByte ? converted.div(255) : converted;
  }
  bool is_elementwise() const override { return true; }

 private:
  bool scale_;
};

class Normalize : public Transform {
 public:
  Normalize(std::vector<double> mean, std::vector<double> std, std::string origin)
      : channels_(std::max(mean.size(), std.size())), origin_(std::move(origin)) {
    if (mean.empty() || std.empty() || (mean.size() > 1 && std.size() > 1 && mean.size() != std.size())) {
      throw UserError(origin_, cat("expected mean and std of equal length, got ", mean.size(), " and ", std.size()));
    }
    for (const double value : std) {
      if (!(std::abs(value) > 0) || !std::isfinite(value))
        throw UserError(origin_ + ".std", cat("expected nonzero numbers, got ", value));
    }
    mean_ = at::tensor(std::vector<float>(mean.begin(), mean.end()));
    std_ = at::tensor(std::vector<float>(std.begin(), std.end()));
  }

  Tensor apply(const Tensor& value, SampleRng&, int batch_dims) const override {
    if (!value.is_floating_point()) {
      throw UserError(origin_, cat("expected floating-point values, got ", value.scalar_type()),
                      "put to_float before normalize");
    }
    const std::int64_t dims = value.dim() - batch_dims;
    if (channels_ == 1) return value.sub(mean_).div_(std_);
    // Channels come third from the end in images, last in feature vectors.
    const std::int64_t axis = dims >= 3 ? -3 : -1;
    if (dims == 0 || value.size(axis) != static_cast<std::int64_t>(channels_)) {
      throw UserError(origin_, cat("mean and std have ", channels_, " entries: expected a value with as many channels, got ",
                                   value.sizes().slice(batch_dims)));
    }
    if (axis == -1) return value.sub(mean_).div_(std_);
    return value.sub(mean_.view({-1, 1, 1})).div_(std_.view({-1, 1, 1}));
  }
  bool is_elementwise() const override { return true; }

 private:
  std::size_t channels_;
  std::string origin_;
  Tensor mean_, std_;
};

// torch.nn.functional.interpolate(align_corners=False). One number sets the shorter edge and keeps the proportions.
class Resize : public Transform {
 public:
  explicit Resize(const Kwargs& kwargs)
      : size_(read_size(kwargs)),
        mode_(kwargs.get<std::string>("interpolation", "bilinear")),
        antialias_(kwargs.get("antialias", true)),
        origin_(kwargs.origin()) {
    if (mode_ != "bilinear" && mode_ != "bicubic" && mode_ != "nearest") {
      throw UserError(origin_ + ".interpolation", "expected bilinear, bicubic or nearest, got '" + mode_ + "'",
                      suggestion(mode_, {"bilinear", "bicubic", "nearest"}));
    }
  }

  Tensor apply(const Tensor& value, SampleRng&, int batch_dims) const override {
    require_image(value, batch_dims, origin_);
    if (mode_ != "nearest" && !value.is_floating_point()) {
      throw UserError(origin_, cat("expected floating-point values, got ", value.scalar_type()), "put to_float before resize");
    }
    const std::int64_t height = value.size(-2), width = value.size(-1);
    Extent to = square(size_);
    if (size_.size() == 1) {
      const std::int64_t shorter = std::min(height, width), longer = std::max(height, width);
      if (shorter < 1) throw UserError(origin_, cat("expected an image with pixels, got ", value.sizes()));
      const auto scaled =
          static_cast<std::int64_t>(static_cast<double>(size_[0]) * static_cast<double>(longer) / static_cast<double>(shorter));
      to = width <= height ? Extent{scaled, size_[0]} : Extent{size_[0], scaled};
    }
    if (to.height == height && to.width == width) return value;
    const Tensor batch = batch_dims == 1 ? value : value.unsqueeze(0);
    const std::vector<std::int64_t> sizes = {to.height, to.width};
    Tensor result;
    if (mode_ == "nearest")
      result = at::upsample_nearest2d(batch, sizes);
    else if (mode_ == "bilinear")
      result = antialias_ ? at::_upsample_bilinear2d_aa(batch, sizes, false) : at::upsample_bilinear2d(batch, sizes, false);
    else
      result = antialias_ ? at::_upsample_bicubic2d_aa(batch, sizes, false) : at::upsample_bicubic2d(batch, sizes, false);
    return batch_dims == 1 ? result : result.squeeze(0);
  }

 private:
  std::vector<std::int64_t> size_;
  std::string mode_;
  bool antialias_;
  std::string origin_;
};

Tensor crop(const Tensor& value, std::int64_t top, std::int64_t left, Extent size) {
  return value.narrow(-2, top, size.height).narrow(-1, left, size.width);
}

// The middle; an image smaller than that is padded with zeros, as torchvision does.
class CenterCrop : public Transform {
 public:
  explicit CenterCrop(const Kwargs& kwargs) : size_(square(read_size(kwargs))), origin_(kwargs.origin()) {}
  Tensor apply(const Tensor& value, SampleRng&, int batch_dims) const override {
    require_image(value, batch_dims, origin_);
    Tensor image = value;
    const std::int64_t missing_height = std::max<std::int64_t>(size_.height - image.size(-2), 0);
    const std::int64_t missing_width = std::max<std::int64_t>(size_.width - image.size(-1), 0);
    if (missing_height > 0 || missing_width > 0) {
      image = at::constant_pad_nd(image,
                                  {missing_width / 2, (missing_width + 1) / 2, missing_height / 2, (missing_height + 1) / 2});
    }
    // Half-way cases go to the even pixel, as Python's round.
    const auto half = [](std::int64_t room) {
      return static_cast<std::int64_t>(std::nearbyint(static_cast<double>(room) / 2));
    };
    return crop(image, half(image.size(-2) - size_.height), half(image.size(-1) - size_.width), size_);
  }

 private:
  Extent size_;
  std::string origin_;
};

class RandomCrop : public Transform {
 public:
  explicit RandomCrop(const Kwargs& kwargs) : size_(square(read_size(kwargs))), origin_(kwargs.origin()) {
    if (kwargs.contains("padding")) {
      // As torchvision: all sides; [left and right, top and bottom]; [left, top, right, bottom].
      const auto given = read_integers(kwargs, "padding");
      if (given.size() == 1)
        padding_ = {given[0], given[0], given[0], given[0]};
      else if (given.size() == 2)
        padding_ = {given[0], given[0], given[1], given[1]};
      else if (given.size() == 4)
        padding_ = {given[0], given[2], given[1], given[3]};
      for (const std::int64_t side : padding_) {
        if (side < 0) padding_.clear();
      }
      if (padding_.empty()) {
        throw UserError(origin_ + ".padding",
                        "expected 1, 2 or 4 numbers that are not negative, got " + kwargs.find("padding")->dump());
      }
    }
  }
  Tensor apply(const Tensor& value, SampleRng& rng, int batch_dims) const override {
    require_image(value, batch_dims, origin_);
    const Tensor image = padding_.empty() ? value : at::constant_pad_nd(value, padding_);
    const std::int64_t free_rows = image.size(-2) - size_.height, free_columns = image.size(-1) - size_.width;
    if (free_rows < 0 || free_columns < 0) {
      throw UserError(origin_,
                      cat("expected an image of at least ", size_.height, " x ", size_.width, " (padding included), got ",
                          image.size(-2), " x ", image.size(-1)),
                      "resize first, or set padding");
    }
    const std::int64_t top = rng.below(free_rows + 1);
    return crop(image, top, rng.below(free_columns + 1), size_);
  }
  bool is_random() const override { return true; }

 private:
  Extent size_;
  std::vector<std::int64_t> padding_;  // left, right, top, bottom
  std::string origin_;
};

class RandomFlip : public Transform {
 public:
  RandomFlip(const Kwargs& kwargs, std::int64_t axis) : p_(kwargs.get("p", 0.5)), axis_(axis), origin_(kwargs.origin()) {
    if (!(p_ >= 0 && p_ <= 1)) throw UserError(origin_ + ".p", cat("expected a probability in [0, 1], got ", p_));
  }
  Tensor apply(const Tensor& value, SampleRng& rng, int batch_dims) const override {
    require_image(value, batch_dims, origin_);
    return rng.uniform() < p_ ? at::flip(value, {axis_}) : value;
  }
  bool is_random() const override { return true; }

 private:
  double p_;
  std::int64_t axis_;
  std::string origin_;
};

template <class T>
TransformFactory factory() {
  return [](const Kwargs& kwargs) { return std::make_shared<const T>(kwargs); };
}

}  // namespace

std::vector<double> read_numbers(const Kwargs& kwargs, const std::string& name, std::vector<double> fallback) {
  const Json* value = kwargs.find(name);
  if (value == nullptr) return fallback;
  if (value->is_array()) return kwargs.require<std::vector<double>>(name);
  return {kwargs.require<double>(name)};
}

TransformPtr make_normalize(std::vector<double> mean, std::vector<double> std, const std::string& origin) {
  return std::make_shared<const Normalize>(std::move(mean), std::move(std), origin);
}

std::vector<std::pair<std::string, TransformFactory>> builtin_transforms() {
  return {
      {"to_float", factory<ToFloat>()},
      {"normalize",
       [](const Kwargs& kwargs) {
         return make_normalize(read_numbers(kwargs, "mean", {0.0}), read_numbers(kwargs, "std", {1.0}), kwargs.origin());
       }},
      {"resize", factory<Resize>()},
      {"center_crop", factory<CenterCrop>()},
      {"random_crop", factory<RandomCrop>()},
      {"random_horizontal_flip", [](const Kwargs& kwargs) { return std::make_shared<const RandomFlip>(kwargs, -1); }},
      {"random_vertical_flip", [](const Kwargs& kwargs) { return std::make_shared<const RandomFlip>(kwargs, -2); }},
  };
}

}  // namespace oumi
