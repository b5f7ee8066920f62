#include "oumi/data/text/arrow_json.h"

#include <arrow/array.h>
#include <arrow/scalar.h>
#include <arrow/table.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/formats/arrow_status.h"

namespace oumi {
namespace {

Json value_of(const arrow::Array& array, std::int64_t i, const std::string& origin);

Json list_of(const arrow::Array& values, std::int64_t begin, std::int64_t size, const std::string& origin) {
  Json list = Json::array();
  for (std::int64_t i = 0; i < size; ++i) list.push_back(value_of(values, begin + i, origin));
  return list;
}

template <class ListArray>
Json list_at(const arrow::Array& array, std::int64_t i, const std::string& origin) {
  const auto& list = static_cast<const ListArray&>(array);
  return list_of(*list.values(), list.value_offset(i), list.value_length(i), origin);
}

Json struct_at(const arrow::StructArray& array, std::int64_t i, const std::string& origin) {
  Json object = Json::object();
  for (int f = 0; f < array.num_fields(); ++f) {
    Json value = value_of(*array.field(f), i, origin);
    if (!value.is_null()) object[array.struct_type()->field(f)->name()] = std::move(value);
  }
  return object;
}

Json value_of(const arrow::Array& array, std::int64_t i, const std::string& origin) {
  if (array.IsNull(i)) return nullptr;
  switch (array.type_id()) {
    case arrow::Type::STRING: return static_cast<const arrow::StringArray&>(array).GetString(i);
    case arrow::Type::LARGE_STRING: return static_cast<const arrow::LargeStringArray&>(array).GetString(i);
    case arrow::Type::STRING_VIEW: return std::string(static_cast<const arrow::StringViewArray&>(array).GetView(i));
    case arrow::Type::BOOL: return static_cast<const arrow::BooleanArray&>(array).Value(i);
    case arrow::Type::INT8: return static_cast<const arrow::Int8Array&>(array).Value(i);
    case arrow::Type::INT16: return static_cast<const arrow::Int16Array&>(array).Value(i);
    case arrow::Type::INT32: return static_cast<const arrow::Int32Array&>(array).Value(i);
    case arrow::Type::INT64: return static_cast<const arrow::Int64Array&>(array).Value(i);
    case arrow::Type::UINT8: return static_cast<const arrow::UInt8Array&>(array).Value(i);
    case arrow::Type::UINT16: return static_cast<const arrow::UInt16Array&>(array).Value(i);
    case arrow::Type::UINT32: return static_cast<const arrow::UInt32Array&>(array).Value(i);
    case arrow::Type::UINT64: return static_cast<const arrow::UInt64Array&>(array).Value(i);
    case arrow::Type::FLOAT: return static_cast<const arrow::FloatArray&>(array).Value(i);
    case arrow::Type::DOUBLE: return static_cast<const arrow::DoubleArray&>(array).Value(i);
    case arrow::Type::LIST: return list_at<arrow::ListArray>(array, i, origin);
    case arrow::Type::LARGE_LIST: return list_at<arrow::LargeListArray>(array, i, origin);
    case arrow::Type::FIXED_SIZE_LIST: return list_at<arrow::FixedSizeListArray>(array, i, origin);
    case arrow::Type::STRUCT: return struct_at(static_cast<const arrow::StructArray&>(array), i, origin);
    case arrow::Type::DICTIONARY: {
      const auto& dictionary = static_cast<const arrow::DictionaryArray&>(array);
      return value_of(*dictionary.dictionary(), dictionary.GetValueIndex(i), origin);
    }
    default: return check_arrow(array.GetScalar(i), origin)->ToString();
  }
}

}  // namespace

Json row_as_json(const arrow::Table& table, std::int64_t index, const std::string& origin) {
  Json row = Json::object();
  for (int c = 0; c < table.num_columns(); ++c) {
    std::int64_t within = index;
    for (const auto& chunk : table.column(c)->chunks()) {
      if (within < chunk->length()) {
        row[table.field(c)->name()] = value_of(*chunk, within, origin);
        break;
      }
      within -= chunk->length();
    }
  }
  return row;
}

}  // namespace oumi
