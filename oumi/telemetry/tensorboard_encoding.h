// Serialized TensorBoard events, apart from the file that they go to. No protobuf type shows here.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace oumi {

using TaggedScalars = std::vector<std::pair<std::string, double>>;

// Each returns the bytes of one Event. `wall_time` is in seconds since 1970.
std::string encode_file_version(double wall_time);
std::string encode_session_start(double wall_time, std::int64_t step);
std::string encode_scalars(double wall_time, std::int64_t step, const TaggedScalars& scalars);
std::string encode_text(double wall_time, std::int64_t step, std::string_view tag, std::string_view markdown);
// Buckets grow by 10% from 1e-12 to 1e20 to both sides of zero, as TensorFlow's; values that are not finite are left out, an
// empty span gives an empty string.
std::string encode_histogram(double wall_time, std::int64_t step, std::string_view tag, std::span<const float> values);

}  // namespace oumi
