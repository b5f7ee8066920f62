#include "oumi/tensors/module.h"

#include <c10/util/Exception.h>
#include <cxxabi.h>

#include <cstdlib>
#include <new>
#include <typeinfo>

#include "oumi/base/error.h"
#include "oumi/tensors/class_name.h"

namespace oumi {

std::string class_name(const std::type_info& type) {
  int status = 0;
  char* demangled = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string name = status == 0 ? demangled : type.name();
  std::free(demangled);
  // "oumi::(anonymous namespace)::Foo" and "Foo<int>" both name class Foo to a user.
  if (const auto generic = name.find('<'); generic != std::string::npos) name.resize(generic);
  if (const auto scope = name.rfind("::"); scope != std::string::npos) name.erase(0, scope + 2);
  if (name.size() > 4 && name.compare(name.size() - 4, 4, "Impl") == 0) name.resize(name.size() - 4);
  return name;
}

namespace call_path {
namespace {

thread_local std::vector<Module*> active;

// The dotted name of `child` below `parent`, searching through containers that have no call path of their own.
std::string path_below(const torch::nn::Module& parent, const torch::nn::Module& child) {
  for (const auto& item : parent.named_modules("", /*include_self=*/false)) {
    if (item.value().get() == &child) return item.key();
  }
  return "";
}

}  // namespace

Frame::Frame(Module& module) { active.push_back(&module); }
Frame::~Frame() { active.pop_back(); }

std::string current_path() {
  if (active.empty()) return "model";
  std::string path = class_name(typeid(*active.front()));
  for (std::size_t i = 1; i < active.size(); ++i) {
    const std::string name = path_below(*active[i - 1], *active[i]);
    path += "." + (name.empty() ? class_name(typeid(*active[i])) : name);
  }
  return path;
}

void rethrow_with_path() {
  try {
    throw;
  } catch (const c10::OutOfMemoryError&) {
    throw EnvironmentError(current_path(), "out of device memory", "lower the batch size or enable gradient checkpointing");
  } catch (const c10::Error& error) {
    if (is_out_of_memory(error)) rethrow_naming_memory(error, current_path());
    std::string message = error.what_without_backtrace();
    if (const auto line = message.find('\n'); line != std::string::npos) message.resize(line);
    throw UserError(current_path(), message, "compare the batch's shapes and dtypes with what this module takes");
  }
}

}  // namespace call_path
}  // namespace oumi
