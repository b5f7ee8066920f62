#include "oumi/config/schema.h"

#include <vector>

#include "oumi/base/strings.h"
#include "oumi/config/aliases.h"
#include "oumi/config/training_config.h"

namespace oumi {
namespace {

void visit_section(const std::string& prefix, FieldList fields,
                   const std::function<void(const std::string&, const Field&)>& visit) {
  for (const Field& field : fields) {
    const std::string key = prefix.empty() ? field.name : prefix + "." + field.name;
    visit(key, field);
    visit_section(field.type->is_list ? key + "[]" : key, field.type->children(), visit);
  }
}

}  // namespace

const Field* find_field(const std::string& dotted_key) {
  FieldList fields = fields_of(static_cast<const TrainingConfig*>(nullptr));
  const Field* found = nullptr;
  for (std::string part : split(dotted_key, '.')) {
    part = part.substr(0, part.find('['));
    found = nullptr;
    for (const Field& field : fields) {
      if (part == field.name) found = &field;
    }
    if (found == nullptr) return nullptr;
    fields = found->type->children();
  }
  return found;
}

void visit_fields(const std::function<void(const std::string& key, const Field& field)>& visit) {
  visit_section("", fields_of(static_cast<const TrainingConfig*>(nullptr)), visit);
}

std::string unknown_key_hint(const std::string& section, const std::string& name, FieldList fields) {
  std::vector<std::string> siblings;
  for (const Field& field : fields) siblings.emplace_back(field.name);
  if (section == "training") {
    for (const HfAlias& alias : hf_aliases()) siblings.emplace_back(alias.name);
  }
  const std::string sibling = nearest_match(name, siblings);
  // A key of another section, written in full, beats a sibling that merely looks like it.
  std::string elsewhere, elsewhere_near;
  std::vector<std::string> leaves;
  visit_fields([&](const std::string& key, const Field& field) {
    if (elsewhere.empty() && name == field.name) elsewhere = key;
    leaves.push_back(key.substr(key.rfind('.') + 1));
  });
  const std::string prefix = section.empty() ? "" : section + ".";
  if (!elsewhere.empty()) return "did you mean '" + elsewhere + "'?";
  if (!sibling.empty()) return "did you mean '" + prefix + sibling + "'?";
  if (const std::string leaf = nearest_match(name, leaves); !leaf.empty()) {
    visit_fields([&](const std::string& key, const Field& field) {
      if (elsewhere_near.empty() && leaf == field.name) elsewhere_near = key;
    });
    return "did you mean '" + elsewhere_near + "'?";
  }
  return siblings.size() <= 12 ? "known: " + join(siblings, ", ") : "the keys are listed in docs/config-reference.md";
}

}  // namespace oumi
