#include "oumi/telemetry/tensorboard_encoding.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "oumi/base/text_bytes.h"
#include "oumi/telemetry/tensorboard_event.pb.h"

namespace oumi {
namespace tb = tensorboard_format;

namespace {

tb::Event event_at(double wall_time, std::int64_t step) {
  tb::Event event;
  event.set_wall_time(wall_time);
  event.set_step(step);
  return event;
}

const std::vector<double>& bucket_limits() {
  static const std::vector<double> limits = [] {
    std::vector<double> positive;
    for (double limit = 1e-12; limit < 1e20; limit *= 1.1) positive.push_back(limit);
    positive.push_back(std::numeric_limits<double>::max());
    std::vector<double> all;
    for (auto limit = positive.rbegin(); limit != positive.rend(); ++limit) all.push_back(-*limit);
    all.push_back(0);
    all.insert(all.end(), positive.begin(), positive.end());
    return all;
  }();
  return limits;
}

}  // namespace

std::string encode_file_version(double wall_time) {
  tb::Event event = event_at(wall_time, 0);
  event.set_file_version("brain.Event:2");
  return event.SerializeAsString();
}

std::string encode_session_start(double wall_time, std::int64_t step) {
  tb::Event event = event_at(wall_time, step);
  event.mutable_session_log()->set_status(tb::SessionLog::START);
  return event.SerializeAsString();
}

std::string encode_scalars(double wall_time, std::int64_t step, const TaggedScalars& scalars) {
  tb::Event event = event_at(wall_time, step);
  for (const auto& [tag, value] : scalars) {
    tb::Summary::Value& entry = *event.mutable_summary()->add_value();
    // Protobuf strings must be UTF-8, or serialization complains on stderr and readers refuse the event.
    entry.set_tag(valid_utf8(tag));
    entry.set_simple_value(static_cast<float>(value));
  }
  return event.SerializeAsString();
}

std::string encode_text(double wall_time, std::int64_t step, std::string_view tag, std::string_view markdown) {
  tb::Event event = event_at(wall_time, step);
  tb::Summary::Value& entry = *event.mutable_summary()->add_value();
  entry.set_tag(valid_utf8(tag) + "/text_summary");
  entry.mutable_metadata()->mutable_plugin_data()->set_plugin_name("text");
  tb::TensorProto& tensor = *entry.mutable_tensor();
  tensor.set_dtype(tb::DT_STRING);
  tensor.mutable_tensor_shape()->add_dim()->set_size(1);
  tensor.add_string_val(valid_utf8(markdown));
  return event.SerializeAsString();
}

std::string encode_histogram(double wall_time, std::int64_t step, std::string_view tag, std::span<const float> values) {
  const std::vector<double>& limits = bucket_limits();
  std::vector<double> counts(limits.size(), 0);
  double low = std::numeric_limits<double>::infinity(), high = -low, sum = 0, sum_squares = 0, count = 0;
  for (const float value : values) {
    if (!std::isfinite(value)) continue;
    const double wide = value;
    low = std::min(low, wide);
    high = std::max(high, wide);
    sum += wide;
    sum_squares += wide * wide;
    ++count;
    ++counts[static_cast<std::size_t>(std::upper_bound(limits.begin(), limits.end() - 1, wide) - limits.begin())];
  }
  if (count == 0) return "";
  tb::Event event = event_at(wall_time, step);
  tb::Summary::Value& entry = *event.mutable_summary()->add_value();
  entry.set_tag(valid_utf8(tag));
  tb::HistogramProto& histogram = *entry.mutable_histo();
  histogram.set_min(low);
  histogram.set_max(high);
  histogram.set_num(count);
  histogram.set_sum(sum);
  histogram.set_sum_squares(sum_squares);
  // Runs of empty buckets become one: its limit is the last of the run.
  for (std::size_t i = 0; i < limits.size();) {
    std::size_t last = i;
    if (counts[i] == 0) {
      while (last + 1 < limits.size() && counts[last + 1] == 0) ++last;
    }
    histogram.add_bucket_limit(limits[last]);
    histogram.add_bucket(counts[i]);
    i = last + 1;
  }
  return event.SerializeAsString();
}

}  // namespace oumi
