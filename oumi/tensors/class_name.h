// A class's own name, without namespaces, template arguments or the Impl suffix of module classes.
#pragma once

#include <string>
#include <typeinfo>

namespace oumi {

std::string class_name(const std::type_info& type);

}  // namespace oumi
