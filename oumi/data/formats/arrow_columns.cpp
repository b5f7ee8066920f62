#include "oumi/data/formats/arrow_columns.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/result_type.h>
#include <ATen/ops/stack.h>
#include <arrow/array.h>
#include <arrow/array/concatenate.h>
#include <arrow/table.h>
#include <arrow/util/bit_util.h>

#include <algorithm>
#include <cstring>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/formats/arrow_status.h"

namespace oumi {
namespace {

// Where in the file a value is, for messages.
struct Place {
  const std::string& origin;
  const std::string& column;
  std::int64_t first_row;
};

[[noreturn]] void fail(const Place& place, const std::string& message, const std::string& hint = "") {
  throw UserError(place.origin, "column '" + place.column + "': " + message, hint);
}

void refuse_nulls(const arrow::Array& array, const Place& place, const char* what) {
  if (array.null_count() == 0) return;
  for (std::int64_t i = 0; i < array.length(); ++i) {
    if (array.IsNull(i))
      fail(place, cat("expected ", what, ", got nothing (null) in row ", place.first_row + i),
           "fill the gaps, or drop the column with columns");
  }
}

template <class Stored>
Tensor copy_as(const arrow::Array& array, c10::ScalarType wanted) {
  const auto* values = array.data()->GetValues<Stored>(1);
  const c10::ScalarType stored = c10::CppTypeToScalarType<Stored>::value;
  Tensor tensor = at::empty({array.length()}, at::TensorOptions(stored));
  if (array.length() > 0)
    std::memcpy(tensor.mutable_data_ptr(), values, sizeof(Stored) * static_cast<std::size_t>(array.length()));
  return tensor.to(wanted);
}

// [length, ...]: numbers and bools, and lists of them where all rows are of one length.
Tensor dense_values(const arrow::Array& array, const Place& place);

struct ListParts {
  std::vector<std::int64_t> offsets;  // from 0, length + 1
  Tensor values;
};

template <class ListArray>
ListParts list_parts(const ListArray& list, const Place& place) {
  ListParts parts;
  const std::int64_t base = list.length() == 0 ? 0 : list.value_offset(0);
  for (std::int64_t i = 0; i < list.length(); ++i) parts.offsets.push_back(list.value_offset(i) - base);
  const std::int64_t end =
      list.length() == 0 ? base : list.value_offset(list.length() - 1) + list.value_length(list.length() - 1);
  parts.offsets.push_back(end - base);
  parts.values = dense_values(*list.values()->Slice(base, end - base), place);
  return parts;
}

bool is_list(const arrow::Array& array) {
  const auto id = array.type_id();
  return id == arrow::Type::LIST || id == arrow::Type::LARGE_LIST || id == arrow::Type::FIXED_SIZE_LIST;
}

ListParts list_parts(const arrow::Array& array, const Place& place) {
  refuse_nulls(array, place, "a list");
  switch (array.type_id()) {
    case arrow::Type::LIST: return list_parts(static_cast<const arrow::ListArray&>(array), place);
    case arrow::Type::LARGE_LIST: return list_parts(static_cast<const arrow::LargeListArray&>(array), place);
    default: return list_parts(static_cast<const arrow::FixedSizeListArray&>(array), place);
  }
}

// The length that all rows have; -1 when they differ.
std::int64_t common_length(const std::vector<std::int64_t>& offsets) {
  for (std::size_t i = 2; i < offsets.size(); ++i) {
    if (offsets[i] - offsets[i - 1] != offsets[1]) return -1;
  }
  return offsets.size() < 2 ? -1 : offsets[1];
}

Tensor as_rows(const ListParts& parts, std::int64_t length) {
  std::vector<std::int64_t> sizes = {static_cast<std::int64_t>(parts.offsets.size()) - 1, length};
  sizes.insert(sizes.end(), parts.values.sizes().begin() + 1, parts.values.sizes().end());
  return parts.values.reshape(sizes);
}

Tensor dense_values(const arrow::Array& array, const Place& place) {
  if (is_list(array)) {
    const ListParts parts = list_parts(array, place);
    const std::int64_t length = array.length() == 0 ? 0 : common_length(parts.offsets);
    if (length < 0)
      fail(place, "inner lists differ in length: expected a rectangular array",
           "only the outermost list may vary from row to row");
    return as_rows(parts, length);
  }
  refuse_nulls(array, place, "a number");
  switch (array.type_id()) {
    case arrow::Type::NA: return at::empty({0}, at::TensorOptions(c10::kLong));  // lists that are all empty
    case arrow::Type::BOOL: {
      Tensor tensor = at::empty({array.length()}, at::TensorOptions(c10::kBool));
      const auto& bools = static_cast<const arrow::BooleanArray&>(array);
      bool* out = tensor.mutable_data_ptr<bool>();
      for (std::int64_t i = 0; i < array.length(); ++i) out[i] = bools.Value(i);
      return tensor;
    }
    case arrow::Type::INT8: return copy_as<std::int8_t>(array, c10::kLong);
    case arrow::Type::INT16: return copy_as<std::int16_t>(array, c10::kLong);
    case arrow::Type::INT32: return copy_as<std::int32_t>(array, c10::kLong);
    case arrow::Type::INT64: return copy_as<std::int64_t>(array, c10::kLong);
    case arrow::Type::UINT8: return copy_as<std::uint8_t>(array, c10::kLong);
    case arrow::Type::UINT16: return copy_as<std::uint16_t>(array, c10::kLong);
    case arrow::Type::UINT32: return copy_as<std::uint32_t>(array, c10::kLong);
    case arrow::Type::UINT64: {
      const auto& numbers = static_cast<const arrow::UInt64Array&>(array);
      for (std::int64_t i = 0; i < array.length(); ++i) {
        if (numbers.Value(i) >> 63) fail(place, cat("expected integers below 2^63, got ", numbers.Value(i)));
      }
      return copy_as<std::int64_t>(array, c10::kLong);
    }
    case arrow::Type::HALF_FLOAT: {
      Tensor tensor = at::empty({array.length()}, at::TensorOptions(c10::kHalf));
      if (array.length() > 0)
        std::memcpy(tensor.mutable_data_ptr(), array.data()->GetValues<std::uint16_t>(1),
                    2 * static_cast<std::size_t>(array.length()));
      return tensor.to(c10::kFloat);
    }
    case arrow::Type::FLOAT: return copy_as<float>(array, c10::kFloat);
    // Kept wide until it is known what dtype is wanted.
    case arrow::Type::DOUBLE: return copy_as<double>(array, c10::kDouble);
    default:
      fail(place, "expected numbers or lists of numbers, got " + array.type()->ToString(),
           "drop it by listing the others in columns; for class names set label_column");
  }
}

// The strings of a plain or dictionary-encoded array; nullopt when it holds none.
std::optional<std::vector<std::string>> strings_of(const arrow::Array& array, const Place& place) {
  std::vector<std::string> texts;
  const auto collect = [&](const auto& strings) {
    for (std::int64_t i = 0; i < strings.length(); ++i) texts.emplace_back(strings.GetView(i));
  };
  switch (array.type_id()) {
    case arrow::Type::STRING:
      refuse_nulls(array, place, "a label");
      collect(static_cast<const arrow::StringArray&>(array));
      return texts;
    case arrow::Type::LARGE_STRING:
      refuse_nulls(array, place, "a label");
      collect(static_cast<const arrow::LargeStringArray&>(array));
      return texts;
    case arrow::Type::STRING_VIEW:
      refuse_nulls(array, place, "a label");
      collect(static_cast<const arrow::StringViewArray&>(array));
      return texts;
    case arrow::Type::DICTIONARY: {
      refuse_nulls(array, place, "a label");
      const auto& encoded = static_cast<const arrow::DictionaryArray&>(array);
      const auto words = strings_of(*encoded.dictionary(), place);
      if (!words) return std::nullopt;
      for (std::int64_t i = 0; i < encoded.length(); ++i)
        texts.push_back(words->at(static_cast<std::size_t>(encoded.GetValueIndex(i))));
      return texts;
    }
    default: return std::nullopt;
  }
}

Tensor label_ids(const std::vector<std::string>& labels, const ColumnRules& rules, const Place& place) {
  std::map<std::string, std::int64_t> ids;
  for (std::size_t i = 0; i < rules.class_names.size(); ++i) ids.emplace(rules.class_names[i], static_cast<std::int64_t>(i));
  Tensor tensor = at::empty({static_cast<std::int64_t>(labels.size())}, at::TensorOptions(c10::kLong));
  auto* out = tensor.mutable_data_ptr<std::int64_t>();
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto found = ids.find(labels[i]);
    if (found == ids.end()) {
      fail(place,
           cat("label '", labels[i], "' in row ", place.first_row + static_cast<std::int64_t>(i), " is none of class_names"),
           suggestion(labels[i], rules.class_names));
    }
    out[i] = found->second;
  }
  return tensor;
}

Column column_of(const arrow::Array& array, c10::ScalarType wanted, bool has_wanted, const Place& place) {
  Column column;
  if (is_list(array)) {
    ListParts parts = list_parts(array, place);
    const std::int64_t length = common_length(parts.offsets);
    if (length >= 0)
      column.values = as_rows(parts, length);
    else
      column = {"", parts.values, std::move(parts.offsets)};
  } else {
    column.values = dense_values(array, place);
  }
  if (!has_wanted) wanted = column.values.is_floating_point() ? c10::kFloat : column.values.scalar_type();
  column.values = column.values.to(wanted);
  return column;
}

// Replaces the columns that rules.stack names by the vectors that they make up.
void stack_columns(std::vector<Column>& columns, const ColumnRules& rules, const std::string& origin) {
  for (const auto& [name, parts] : rules.stack) {
    std::vector<Tensor> values;
    for (const std::string& part : parts) {
      const auto found =
          std::find_if(columns.begin(), columns.end(), [&part](const Column& column) { return column.name == part; });
      if (found == columns.end()) throw UserError(rules.key + ".stack." + name, "no column '" + part + "' in " + origin);
      if (found->is_ragged() || found->values.dim() != 1)
        throw UserError(rules.key + ".stack." + name, "column '" + part + "': expected one number per row");
      values.push_back(found->values);
      columns.erase(found);
    }
    if (values.empty()) throw UserError(rules.key + ".stack." + name, "expected a list of columns, got none");
    c10::ScalarType dtype = values.front().scalar_type();
    for (const Tensor& value : values) dtype = c10::promoteTypes(dtype, value.scalar_type());
    for (Tensor& value : values) value = value.to(dtype);
    columns.push_back({name, at::stack(values, 1), {}});
  }
}

}  // namespace

std::vector<std::string> ColumnRules::needed() const {
  std::vector<std::string> all = columns;
  if (!all.empty() && !label_column.empty() && std::find(all.begin(), all.end(), label_column) == all.end())
    all.push_back(label_column);
  return all;
}

std::vector<Column> columns_of(const arrow::Table& table, const ColumnRules& rules, std::int64_t first_row,
                               const std::string& origin, std::vector<std::string>* found_classes) {
  const std::vector<std::string> names = table.ColumnNames();
  std::vector<std::string> wanted = rules.needed();
  if (wanted.empty()) wanted = names;
  if (!rules.label_column.empty() && std::find(names.begin(), names.end(), rules.label_column) == names.end()) {
    throw UserError(rules.key + ".label_column", "no column '" + rules.label_column + "' in " + origin,
                    suggestion(rules.label_column, names));
  }
  for (const auto& [old_name, new_name] : rules.rename) {
    if (std::find(names.begin(), names.end(), old_name) == names.end()) {
      throw UserError(rules.key + ".rename", "no column '" + old_name + "' in " + origin, suggestion(old_name, names));
    }
  }
  std::vector<Column> columns;
  for (const std::string& name : wanted) {
    const auto chunked = table.GetColumnByName(name);
    if (chunked == nullptr) {
      if (std::find(names.begin(), names.end(), name) != names.end())
        throw UserError(origin, "column '" + name + "' is there twice");
      throw UserError(rules.key + ".columns", "no column '" + name + "' in " + origin, suggestion(name, names));
    }
    const Place place{origin, name, first_row};
    const auto array =
        chunked->num_chunks() == 1 ? chunked->chunk(0) : check_arrow(arrow::Concatenate(chunked->chunks()), origin);
    const bool is_label = name == rules.label_column;
    const auto renamed = rules.rename.find(name);
    std::string field = is_label ? "labels" : renamed == rules.rename.end() ? name : renamed->second;
    if (is_label) {
      if (const auto labels = strings_of(*array, place)) {
        if (!rules.class_names.empty()) {
          columns.push_back({std::move(field), label_ids(*labels, rules, place), {}});
        } else if (found_classes != nullptr) {
          found_classes->insert(found_classes->end(), labels->begin(), labels->end());
          std::sort(found_classes->begin(), found_classes->end());
          found_classes->erase(std::unique(found_classes->begin(), found_classes->end()), found_classes->end());
        } else {
          throw UserError(rules.key + ".class_names", "is required: the labels in column '" + name + "' are strings",
                          "list the classes in order; a stream cannot look ahead for them");
        }
        continue;
      }
    }
    const auto dtype = rules.dtypes.find(name);
    Column column =
        column_of(*array, dtype == rules.dtypes.end() ? c10::kLong : dtype->second, dtype != rules.dtypes.end(), place);
    if (is_label && dtype == rules.dtypes.end() && column.values.scalar_type() == c10::kBool)
      column.values = column.values.to(c10::kLong);
    column.name = std::move(field);
    columns.push_back(std::move(column));
  }
  stack_columns(columns, rules, origin);
  return columns;
}

std::vector<Column> concat_columns(std::vector<std::vector<Column>> blocks, const std::string& origin) {
  if (blocks.size() == 1) return std::move(blocks.front());
  std::vector<Column> result;
  for (std::size_t i = 0; !blocks.empty() && i < blocks.front().size(); ++i) {
    const Column& first = blocks.front()[i];
    c10::ScalarType dtype = first.values.scalar_type();
    bool is_dense = true;
    for (const auto& block : blocks) {
      if (block.size() != blocks.front().size() || block[i].name != first.name) {
        throw UserError(origin,
                        "files or blocks have different columns: column '" + first.name + "' is not everywhere in its place");
      }
      dtype = c10::promoteTypes(dtype, block[i].values.scalar_type());
      is_dense = is_dense && !block[i].is_ragged() && block[i].values.sizes().slice(1) == first.values.sizes().slice(1);
    }
    Column column{first.name, {}, {}};
    if (!is_dense) column.offsets.push_back(0);
    std::vector<Tensor> parts;
    for (auto& block : blocks) {
      Column& piece = block[i];
      Tensor values = piece.values.to(dtype);
      if (!is_dense) {
        if (piece.is_ragged()) {
          const std::int64_t base = column.offsets.back();
          for (std::size_t row = 1; row < piece.offsets.size(); ++row) column.offsets.push_back(base + piece.offsets[row]);
        } else {
          if (values.dim() < 2)
            throw UserError(origin, "column '" + first.name + "': expected numbers everywhere or lists everywhere, got both");
          const std::int64_t length = values.size(1);
          for (std::int64_t row = 0; row < values.size(0); ++row) column.offsets.push_back(column.offsets.back() + length);
          values = values.flatten(0, 1);
        }
      }
      if (!parts.empty() && values.sizes().slice(1) != parts.front().sizes().slice(1)) {
        throw UserError(origin, cat("column '", first.name, "': rows differ beyond their first dimension: expected ",
                                    parts.front().sizes().slice(1), ", got ", values.sizes().slice(1)));
      }
      parts.push_back(std::move(values));
      piece.values = Tensor();
    }
    column.values = at::cat(parts);
    result.push_back(std::move(column));
  }
  return result;
}

c10::ScalarType parse_dtype(const std::string& name, const std::string& key) {
  static const std::map<std::string, c10::ScalarType> known = {
      {"float16", c10::kHalf}, {"bfloat16", c10::kBFloat16}, {"float32", c10::kFloat}, {"float64", c10::kDouble},
      {"int8", c10::kChar},    {"int16", c10::kShort},       {"int32", c10::kInt},     {"int64", c10::kLong},
      {"uint8", c10::kByte},   {"bool", c10::kBool}};
  const auto found = known.find(to_lower(name));
  if (found != known.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [text, type] : known) names.push_back(text);
  throw UserError(key, "unknown dtype '" + name + "'", suggestion(name, names));
}

}  // namespace oumi
