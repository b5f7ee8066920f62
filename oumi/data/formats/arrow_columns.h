// Arrow columns -> tensors.
#pragma once

#include <map>

#include "oumi/data/table.h"

namespace arrow {
class Table;
}

namespace oumi {

// What becomes of a file's columns. Integers become int64 and floats float32, as Hugging Face's torch format has it, unless
// `dtypes` says otherwise; bools stay; lists become tensors, of equal lengths or ragged along their first dimension.
struct ColumnRules {
  std::vector<std::string> columns;                       // to keep, in this order; all when empty
  std::map<std::string, std::string> rename;              // old -> new
  std::map<std::string, c10::ScalarType> dtypes;          // by old name
  std::map<std::string, std::vector<std::string>> stack;  // new -> scalar columns that become one vector
  std::string label_column;                               // becomes `labels`, int64; strings through class_names
  std::vector<std::string> class_names;
  std::string key;  // dotted config key of the dataset_kwargs, for errors

  // The columns that have to be read for these; empty for all.
  std::vector<std::string> needed() const;
};

// Throws UserError naming `origin`, the column and the row (from `first_row`): nulls, strings and other types that are no
// numbers, inner lists of different lengths, labels that are no class. Where rules.class_names is empty and the labels are
// strings, these are collected into `found_classes` instead and the labels are left out of the result.
std::vector<Column> columns_of(const arrow::Table& table, const ColumnRules& rules, std::int64_t first_row,
                               const std::string& origin, std::vector<std::string>* found_classes = nullptr);

// The blocks' columns in a row: dense where all are dense with equal rows, ragged otherwise; of the wider dtype.
std::vector<Column> concat_columns(std::vector<std::vector<Column>> blocks, const std::string& origin);

// "float32", "int64", ...: throws UserError naming `key`.
c10::ScalarType parse_dtype(const std::string& name, const std::string& key);

}  // namespace oumi
