// Text of single values: which type a plain YAML scalar has, and how a value is written so that every reader agrees.
// Rules are those of OmegaConf's loader: YAML 1.1 as in PyYAML, floats also without a dot (1e-4), no timestamps.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "oumi/config/value.h"

namespace oumi {

// The value of a plain (unquoted) scalar: null, bool, int (decimal, 0x, 0b, 0-octal, 1_000, 1:30), float, or str.
Value resolve_plain_scalar(std::string_view text);

// Python's int(text) and float(text): surrounding space, a sign, underscores between digits; inf and nan for floats.
// An integer beyond 64 bits gives nothing.
std::optional<std::int64_t> python_int(std::string_view text);
std::optional<double> python_float(std::string_view text);

// Python's repr of a float: shortest text that reads back to the same bits ("0.0001", "1e-05", "1e+16", "inf").
std::string python_repr(double value);

// The same as YAML 1.1 and 1.2 both read as a float: "1.0e-05", ".inf", ".nan", "2.0".
std::string yaml_float(double value);

// Plain where every reader takes it for a string, else in double quotes with escapes.
std::string yaml_string(std::string_view text);

}  // namespace oumi
